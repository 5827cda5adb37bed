//! What ships: the release and its packages, configurations, the image, the documents, their
//! language, the dependencies, and the results of the fleet simulation.

mod configurations;
mod container;
mod dependencies;
mod dist;
mod fleet;
mod language;
mod packages;
mod readme;
mod systemd;
