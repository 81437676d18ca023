//! How the released program is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    // rustc links with lld on this target. Functions whose machine code is the same stand there once.
    if var("TARGET") == "x86_64-unknown-linux-gnu" && var("PROFILE") == "release" {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}
