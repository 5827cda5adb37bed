//! Files that ship with the binary: configurations, the image, the README, the dependencies, and
//! the results of the fleet simulation.

mod configurations;
mod container;
mod dependencies;
mod fleet;
mod readme;
