//! What every request pays for its token, its route and its headers.

fn main() {}
