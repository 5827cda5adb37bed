//! Tokens: how they are fetched, refreshed, rotated and replaced.

mod allocations;
mod clocks;
mod issuers;
mod lifetime;
mod rotation;
