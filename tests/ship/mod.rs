//! What ships beside the binary: the image, the README, the dependencies and the fleet simulation.

mod container;
mod dependencies;
mod fleet;
mod readme;
