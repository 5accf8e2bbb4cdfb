//! Names the library as programs ask for NVIDIA's.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A program that asks for libcuda.so gets this library if it is loaded already, whatever its file is called.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
    }
}
