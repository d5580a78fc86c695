//! Sessions on real sockets.

mod fds;
mod order;
mod pressure;
mod support;
