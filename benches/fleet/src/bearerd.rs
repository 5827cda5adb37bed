//! Of bearerd only the schedule, under its name there.

#[path = "../../../src"]
mod source {
    pub mod token {
        pub mod instant;
        pub mod plan;
        pub mod schedule;
    }
}

pub use source::token;
