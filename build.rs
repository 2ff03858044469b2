//! Generates the wire types from `proto/` with protox, so that no `protoc` has to be installed.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["roamd/v1/roamd.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptor.bin"), prost_encode(&descriptors))?;
    prost_build::Config::new()
        .bytes(["."])
        // They carry tokens; wire::proto writes their Debug without them.
        .skip_debug([".roamd.v1.Hello", ".roamd.v1.RegisterPush"])
        .out_dir(&out)
        .compile_fds(descriptors)?;
    Ok(())
}

fn prost_encode(descriptors: &impl protox::prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}
