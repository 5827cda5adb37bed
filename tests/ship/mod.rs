//! What ships beside the binary: the image, the README and the fleet simulation.

mod container;
mod fleet;
mod readme;
