//! QMP sessions over chardevs: negotiation, scheduling, events.
