"""The lines that keep the promises of docs/reliability.md, and how each is taken out; for scripts/guards.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """
    A line that keeps a promise.

    :param without: what is lost without it.
    :param edits: file of the package, text in it, and the text that takes the guard out.
    :param tests: arguments of pytest.
    :param red: parts of the names of tests that must turn red; of each at least one.
    :param airflow: run with the Python of the matrix that has this Airflow; None for this Python.
    :param environment: further variables.
    """

    without: str
    edits: tuple[tuple[str, str, str], ...]
    tests: str
    red: tuple[str, ...]
    airflow: str | None = None
    environment: tuple[tuple[str, str], ...] = ()


SYSTEM = "tests/system/test_"
FEW = (("REVOX_SYSTEM_PEOPLE", "60"),)

GUARDS = {
    "no-intent": Guard(
        "a killed task leaves no trace of the request that it made, and the next try makes another",
        (("placing.py", "self._client.send(endpoint, before_try=write_intent)", "self._client.send(endpoint)"),),
        f"{SYSTEM}kills.py {SYSTEM}components.py -k in_flight_taken-search or schedulers or api_server",
        ("in_flight_taken-search", "schedulers", "the_api_server"),
    ),
    "no-id": Guard(
        "the id of a call that was placed is forgotten, and only a search can find it",
        (("settling.py", "self._ledger.put(entry.placed(call_id, self._now()))", "_ = entry.placed"),),
        f"{SYSTEM}kills.py {SYSTEM}stops.py -k deferring-plain or resuming-plain or reading_the_end-plain or shutdown",
        ("deferring-plain", "resuming-plain", "reading_the_end-plain"),
    ),
    "no-end": Guard(
        "a recorded call is not the end of it: it is searched for, and where that is impossible the answer is lost",
        (("placing.py", "        if newest.call_id:\n", "        if False:\n"),),
        f"{SYSTEM}kills.py {SYSTEM}settled_by_hand.py -k plain or word",
        ("after_record-plain", "deferring-plain", "resuming-plain", "word"),
    ),
    "no-record": Guard(
        "the record is not heeded, and every further try dials",
        (
            (
                "placing.py",
                "if (record := self._ledger.record) is None:",
                "if (record := self._ledger.record) is not False:",
            ),
        ),
        f"{SYSTEM}kills.py {SYSTEM}workers.py {SYSTEM}components.py {SYSTEM}stops.py {SYSTEM}person.py {SYSTEM}wiped_records.py"
        f" {SYSTEM}storm.py",
        (
            "after_record-search",
            "deferring-search",
            "resuming-search",
            "reading_the_end-search",
            "a_worker_replaced_after_its_intent",
            "adopted[lost]",
            "adopted[alone]",
            "schedulers",
            "killed_alone",
            "shutdown",
            "what_becomes_of_call_and_task",
            "until_the_success",
            "storm",
        ),
        environment=FEW,
    ),
    "no-resolve": Guard(
        "a request of which nobody knows what became is made again",
        (
            (
                "placing.py",
                "return self._dial_unless_dialled() if newest.state is State.REFUSED else self._resolve(newest)",
                "return self._dial_unless_dialled()",
            ),
        ),
        f"{SYSTEM}kills.py {SYSTEM}workers.py {SYSTEM}components.py {SYSTEM}storm.py {SYSTEM}person.py {SYSTEM}plain_operator.py"
        " -k after_intent or in_flight or before_record or lost or alone or schedulers or api_server or storm or placing"
        " or this_provider",
        (
            "after_intent",
            "in_flight_taken",
            "in_flight_not_taken",
            "before_record",
            "adopted[lost]",
            "adopted[alone]",
            "schedulers",
            "the_api_server",
            "storm",
            "placing",
            "this_provider_has_nobody_phoned_twice[the task is killed while its request is under way, after",
        ),
        environment=FEW,
    ),
    "late": Guard(
        "a worker that slept through its minute dials after its successor did",
        (("placing.py", "if self._now() < entry.post_before:\n", "if entry:\n"),),
        f"{SYSTEM}workers.py -k late",
        ("late",),
    ),
    "unwritten": Guard(
        "an intent that cannot be written does not stop the request: a worker that was replaced dials after its successor did",
        (
            (
                "placing.py",
                "                self._ledger.put_if_untouched(entry)\n",
                "                with __import__('contextlib').suppress(Exception):\n"
                "                    self._ledger.put_if_untouched(entry)\n",
            ),
        ),
        f"{SYSTEM}workers.py -k before_its_intent",
        ("before_its_intent_dials_nobody[search]", "before_its_intent_dials_nobody[plain]"),
    ),
    "early": Guard(
        "two searches find nothing, and then the lost request arrives",
        (
            (
                "placing.py",
                "        for pause in (max(0.0, (quiet_at - self._now()).total_seconds()), APART_SECONDS):\n",
                "        for pause in (0.0, 0.0):\n",
            ),
        ),
        f"{SYSTEM}workers.py -k early",
        ("early",),
    ),
    "no-memory": Guard(
        "as no-record, against the faults that the plain operator fails at",
        (
            (
                "placing.py",
                "if (record := self._ledger.record) is None:",
                "if (record := self._ledger.record) is not False:",
            ),
        ),
        f"{SYSTEM}plain_operator.py -k this_provider",
        (
            "waits for the end",
            "its worker is lost",
            "its worker is stopped",
            "a person clears",
        ),
    ),
    "no-patience": Guard(
        "a look that fails ends the try, and the next one dials",
        (
            (
                "placing.py",
                "if (record := self._ledger.record) is None:",
                "if (record := self._ledger.record) is not False:",
            ),
            ("client.py", "    return is_transient(error)\n", "    return False\n"),
            ("polling.py", "or isinstance(error, RevoxRejectedError)\n", "or not refused and not missing\n"),
        ),
        f"{SYSTEM}plain_operator.py -k this_provider and look",
        ("answers 503 to one look", "one look at the call meets a reset"),
    ),
    "over-careful": Guard(
        "a task that certainly dialled nobody is not dialled by its next try",
        (("placing.py", "if not self._ledger.durable and (newest", "if (newest"),),
        f"{SYSTEM}kills.py -k before_intent",
        ("before_intent-plain",),
    ),
    "no-redial": Guard(
        "redial_if_absent dials nobody",
        (
            (
                "placing.py",
                'if found.certainly_absent and may_dial and self._on_unknown == "redial_if_absent":',
                "if found.certainly_absent and not may_dial:",
            ),
        ),
        f"{SYSTEM}kills.py -k redial_if_absent",
        ("redial_if_absent",),
    ),
    "no-redial-without-store": Guard(
        "redial_if_absent dials nobody where no record is kept",
        (("placing.py", '            if self._on_unknown == "redial_if_absent":\n', "            if False:\n"),),
        f"{SYSTEM}without_store.py -k redial_if_absent",
        ("redial_if_absent",),
        airflow="3.1.8",
    ),
    "too-soon": Guard(
        "a person's word counts before the request that it is about can have arrived",
        (
            (
                "settling.py",
                "        elif self._now() < (quiet_at := self._quiet_at(entry.post_before)):\n",
                "        elif quiet_at := None:\n",
            ),
        ),
        f"{SYSTEM}settled_by_hand.py -k sent_after",
        ("sent_after",),
    ),
    "shifted": Guard(
        "whoever stands at another map index of a cleared run is phoned again",
        (("placing.py", "        return origin.mapped and origin.clear_number > 0\n", "        return False\n"),),
        f"{SYSTEM}mapped.py",
        ("at_another_index",),
    ),
    "any-number": Guard(
        "a record of one person's call counts for another",
        (
            (
                "placing.py",
                "        if not newest.is_for(self._number) and not record.dialled_nobody:\n",
                "        if False:\n",
            ),
        ),
        f"{SYSTEM}mapped.py",
        ("at_the_index_of_another",),
    ),
    "new-status": Guard(
        "a status that nobody knows counts as the end",
        (("models/enums.py", "        _warn_once(str(status))\n        return False\n", "        return True\n"),),
        f"{SYSTEM}away.py -k nobody_knows or never_moves",
        ("nobody_knows", "never_moves"),
    ),
    "no-word": Guard(
        "a word that allows one more call is not heard",
        (
            (
                "settling.py",
                '            if self._allows_one_more(word, word.redial_after or ""):\n',
                "            if False:\n",
            ),
        ),
        f"{SYSTEM}settled_by_hand.py",
        ("allows_exactly_one_more", "never_sent_is_sent"),
    ),
    "unclear": Guard(
        "a request without a clear answer counts as one that dialled nobody",
        (
            (
                "placing.py",
                "            return self._resolve(entry, may_dial=may_dial_again)\n",
                "            self._ledger.put(entry.refused(str(error), self._now()))\n"
                "            raise RevoxUnreachableError(str(error)) from error\n",
            ),
        ),
        f"{SYSTEM}plain_operator.py -k this_provider and Revox and not look",
        ("connection closes", "answers 502", "after the timeout", "cut off", "captive portal", "with 503"),
    ),
    "anybody": Guard(
        "a call is cancelled with its task whatever that task's state is",
        (
            (
                "cancelling.py",
                'frozenset({"failed", "skipped"})',
                'frozenset({"failed", "skipped", "running", "deferred", None})',
            ),
        ),
        f"{SYSTEM}components.py {SYSTEM}stops.py -k stopped_for or terminated or shutdown",
        ("stopped_for_longer", "terminated", "shutdown"),
    ),
    "stood-still": Guard(
        "a worker that slept until Airflow failed its task takes the call along",
        (("cancelling.py", "    if stood_still:\n", "    if False:\n"),),
        f"{SYSTEM}stops.py -k stood_still",
        ("stood_still",),
    ),
    "any-state": Guard(
        "marking a task successful, or clearing it, cancels its call",
        (("cancelling.py", "    if state not in ENDED_BY_A_PERSON:\n", "    if not call_id:\n"),),
        f"{SYSTEM}person.py",
        ("mark_success", "clear"),
    ),
    "no-cancel": Guard(
        "marking a waiting task failed lets its call go on",
        (
            ("triggers.py", "if self.cancel_on_kill and self.task_instance is not None:", "if False:"),
            ("call_task.py", "            self._stop.ask()\n", "            self._stop.asked = False\n"),
        ),
        f"{SYSTEM}person.py -k mark_failed",
        ("deferred-mark_failed", "waiting-mark_failed"),
    ),
    "no-arguments": Guard(
        "a trigger that is started anew knows nothing of its call",
        (
            ("triggers.py", '                "deadline": self.deadline,\n', ""),
            ("triggers.py", '"call_id": self.call_id,\n', '"call_id": "",\n'),
        ),
        f"{SYSTEM}components.py {SYSTEM}stops.py -k triggerer",
        ("all_triggerers", "one_of_two", "stopped_for", "restarted_or_die"),
    ),
    "not-again": Guard(
        "a wait that begins a second time, in another triggerer, comes to no end",
        (
            (
                "triggers.py",
                "        end = await watch_call(\n",
                "        import asyncio\n"
                "        import os\n"
                "        from pathlib import Path\n\n"
                "        begun = Path(os.environ['AIRFLOW_HOME']) / f'{self.call_id}.begun'\n"
                "        await asyncio.sleep(3600 * begun.exists())\n"
                "        begun.touch()\n"
                "        end = await watch_call(\n",
            ),
        ),
        f"{SYSTEM}components.py {SYSTEM}stops.py -k triggerer",
        ("all_triggerers", "one_of_two", "stopped_for", "restarted_or_die"),
    ),
    "any-word": Guard(
        "a word settles more than the call that it names",
        (
            ("settling.py", "if any(entry.is_called(target) for entry in record.earlier):", "if False:"),
            ("settling.py", "if target != (newest.call_id if by_call_id else newest.nonce):", "if False:"),
            ("settling.py", "        if not is_terminal(str(order.status)):\n", "        if False:\n"),
            ("settling.py", '            self._adopt_named(word, word.adopt or "")\n', "            pass\n"),
            (
                "placing.py",
                "            self._ledger.mark_used(word, self._now())\n            return placed",
                "            return placed",
            ),
        ),
        f"{SYSTEM}settled_by_hand.py",
        ("allows_exactly_one_more", "after_a_call_that_goes_on", "is_adopted"),
    ),
    "wiped": Guard(
        "a record that success wiped counts as none",
        (("operators.py", "wiped_on_success=wiped", "wiped_on_success=False"),),
        f"{SYSTEM}wiped_records.py",
        ("a_cleared_success_is_found_again", "cannot_be_found_again_dials_nobody"),
    ),
    "no-doubt": Guard(
        "where no record is kept and nothing can be searched, people are dialled again",
        (
            (
                "placing.py",
                "        if found.certainly_absent:\n            return self._dial(",
                "        if found:\n            return self._dial(",
            ),
        ),
        f"{SYSTEM}wiped_records.py -k cannot_be_found",
        ("cannot_be_found_again_dials_nobody",),
    ),
    "hopeless": Guard(
        "trouble ends the wait",
        (
            ("polling.py", "or isinstance(error, RevoxRejectedError)\n", "or not refused and not missing\n"),
            ("polling.py", "return self.trusted or (first_refusal and", "return (first_refusal and"),
        ),
        f"{SYSTEM}away.py -k 503 or rotated",
        ("ten_minutes_of_503", "503_for_ever", "rotated_key"),
    ),
    "missing": Guard(
        "an order that is gone for good is looked for until the deadline",
        (("polling.py", "            missed_for_good\n            or isinstance", "            isinstance"),),
        f"{SYSTEM}away.py -k disappears",
        ("disappears",),
    ),
    "no-deadline": Guard(
        "a wait has no end",
        (
            (
                "polling.py",
                'return End("deadline", self.status) if left <= 0 else Again(min(seconds, left), reconnect=reconnect, soon=soon)',
                "return Again(seconds, reconnect=reconnect, soon=soon)",
            ),
        ),
        f"{SYSTEM}away.py -k never_moves or refused_for_ever",
        ("never_moves", "refused_for_ever"),
    ),
    "begun-anew": Guard(
        "each start of a triggerer begins the wait anew",
        (
            (
                "watcher.py",
                "datetime.fromtimestamp(deadline, timezone.utc)",
                "datetime.fromtimestamp(_now().timestamp() + 60, timezone.utc)",
            ),
        ),
        f"{SYSTEM}away.py -k across_a_restart",
        ("across_a_restart",),
    ),
    "old-key": Guard(
        "a changed connection is not read again",
        (
            (
                "watching.py",
                "            self._give_up(RevoxAuthenticationError(what, status_code=error.status_code))\n",
                "            pass\n",
            ),
            (
                "waiting.py",
                "        if isinstance(step, Again) and step.reconnect:\n            self.hook.close()\n",
                "",
            ),
        ),
        f"{SYSTEM}away.py -k rotated",
        ("rotated_key_is_outlived_until_the_connection_is_changed[triggerer]", "is_changed[worker]"),
    ),
    "no-store": Guard(
        "where no record is kept every further try dials",
        (("placing.py", "if not self._ledger.durable and (newest", "if False and (newest"),),
        f"{SYSTEM}without_store.py {SYSTEM}person.py",
        ("killed_in_flight_taken", "killed_while_deferring", "cleared", "what_becomes_of_call_and_task"),
        airflow="3.1.8",
    ),
    "no-store-no-doubt": Guard(
        "where no record is kept a search that finds nothing is taken for certain",
        (
            (
                "placing.py",
                'found = Found(doubt="an earlier try may have dialled, and a search found no order of it")',
                "found = Found()",
            ),
        ),
        f"{SYSTEM}without_store.py",
        ("killed_in_flight_not_taken-search",),
        airflow="3.1.8",
    ),
}
