//! Files that ship with the binary: configurations, the image, the documents, their language, the
//! dependencies, and the results of the fleet simulation.

mod configurations;
mod container;
mod dependencies;
mod fleet;
mod language;
mod readme;
