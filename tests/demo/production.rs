//! The build for production, which has no demo tenant.

const MAKEFILE: &str = include_str!("../../Makefile");
const CONTAINERFILE: &str = include_str!("../../deploy/image/Containerfile");

#[test]
fn make_release_and_the_image_leave_out_the_demo_tenant() {
    let features = "--no-default-features --features cert,otlp";
    assert!(MAKEFILE.contains(&format!("\nPRODUCTION := {features}\n")));
    assert!(MAKEFILE.contains("scripts/release.sh target/ship/bearerd $(PRODUCTION)\n"));
    assert!(CONTAINERFILE.contains(&format!("cargo build --release --locked {features} &&")));
}
