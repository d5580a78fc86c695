//! Several clients and real peers against real processes.
