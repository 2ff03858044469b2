//! Generates the wire types from `proto/` with protox, so that no `protoc` has to be installed, and
//! beside them the shapes that `src/wire/scan.rs` walks before it lets anything be decoded.

use std::{env, error::Error, fmt::Write as _, fs, path::PathBuf};

use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use protox::prost::Message as _;

/// Sub-messages that stay behind a pointer: an item that stands for "you cannot see it" has none, and
/// shall not take their room.
const BOXED: [&str; 2] =
    [".roamd.v1.ConversationItem.conversation", ".roamd.v1.MessageItem.message"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["roamd/v1/roamd.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), descriptors.encode_to_vec())?;
    fs::write(out.join("shapes.rs"), shapes(&descriptors)?)?;
    let mut config = prost_build::Config::new();
    for path in BOXED {
        config.boxed(path);
    }
    config
        .bytes(["."])
        // They carry tokens; wire::proto writes their Debug without them.
        .skip_debug([".roamd.v1.Hello", ".roamd.v1.RegisterPush"])
        .out_dir(&out)
        .compile_fds(descriptors)?;
    Ok(())
}

/// One constant for each message: the fields that become elements of lists or values of their own.
fn shapes(descriptors: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    for message in descriptors.file.iter().flat_map(|file| &file.message_type) {
        writeln!(text, "pub(super) static {}: Shape = Shape(&[", constant(message.name()))?;
        for field in &message.field {
            if let Some(entry) = shape(message, field) {
                writeln!(text, "    {entry},")?;
            }
        }
        writeln!(text, "]);")?;
    }
    Ok(text)
}

fn shape(message: &DescriptorProto, field: &FieldDescriptorProto) -> Option<String> {
    let number = field.number();
    let repeated = field.label() == Label::Repeated;
    let (of, bytes) = match field.r#type() {
        Type::Message => {
            let name = field.type_name().trim_start_matches(".roamd.v1.");
            let full = format!(".roamd.v1.{}.{}", message.name(), field.name());
            let apart = repeated || BOXED.contains(&&full[..]);
            let bytes = if apart { format!("size_of::<proto::{name}>()") } else { "0".to_owned() };
            (format!("Of::Message(&{})", constant(name)), bytes)
        }
        Type::String if repeated => ("Of::Values".to_owned(), "size_of::<String>()".to_owned()),
        Type::Bytes if repeated => ("Of::Values".to_owned(), "size_of::<Bytes>()".to_owned()),
        _ if repeated => ("Of::Numbers".to_owned(), "size_of::<u64>()".to_owned()),
        _ => return None,
    };
    Some(format!("Field {{ number: {number}, of: {of}, bytes: {bytes} }}"))
}

/// `SyncBatch` to `SYNC_BATCH`.
fn constant(name: &str) -> String {
    let mut constant = String::new();
    for (index, letter) in name.char_indices() {
        if index > 0 && letter.is_ascii_uppercase() {
            constant.push('_');
        }
        constant.push(letter.to_ascii_uppercase());
    }
    constant
}
