//! The demo tenant over real TLS, as a client sees it.

mod audit;
mod bearer;
mod cli;
mod content;
mod control;
mod credentials;
mod csrf;
mod faults;
mod issuer;
mod lifecycle;
mod odata;
mod production;
mod rest;
mod scim;
mod setup;
