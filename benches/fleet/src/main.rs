//! `make fleet`: simulates fleets of sidecars, and writes the tables and pictures of
//! `docs/fleet.md`.

mod issuer;
mod picture;
mod report;
mod scenarios;
mod simulation;

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let document = docs.join("fleet.md");
    fs::write(&document, report::renew(&fs::read_to_string(&document)?))?;
    fs::create_dir_all(docs.join("fleet"))?;
    for (name, svg) in picture::all() {
        fs::write(docs.join("fleet").join(name), svg)?;
    }
    Ok(())
}
