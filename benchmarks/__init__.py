"""What the provider costs, measured beside what people use today; run by `make bench`, told in docs/performance.md."""
