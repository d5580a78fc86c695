//! The layers around every handler, outermost first.
//!
//! | layer | why it stands here |
//! |---|---|
//! | [`observe`] | sees every call, refused ones too, and the whole time it took |
//! | [`reply`] | everything inside may fail or panic; outside of it there are only outcomes |
//! | [`authorize`] | before the permit, so that a refused command waits for nobody |
//! | [`permit`] | before the timeout, so that the time starts when the command does |
//! | [`timeout`] | only around commands that may be dropped at any await |
//! | [`decode`] | inside the authorization: who may not call a command learns nothing of its arguments |
//!
//! Every one is a plain [`tower::Layer`] and [`tower::Service`] pair and can be used alone. All of them are ready
//! when what they wrap is ready, and handlers always are: nothing is reserved by `poll_ready`, so an idle monitor
//! holds nothing that another one waits for.

pub mod authorize;
pub mod decode;
pub mod observe;
pub mod permit;
pub mod reply;
pub mod timeout;
