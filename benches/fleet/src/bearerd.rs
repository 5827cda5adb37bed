//! The part of bearerd that is simulated: the refresh schedule.

#[path = "../../../src"]
mod source {
    pub mod clock {
        mod instant;

        pub use instant::Instant;
    }
    pub mod token {
        pub mod rate_limit;
        pub mod retry;
        pub mod schedule;
    }
}

pub use source::{clock, token};
