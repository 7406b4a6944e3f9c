//! Whole-system tests: real processes, real sockets, every way to connect. The tests are in `tests/whole`.
