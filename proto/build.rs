//! Generates Rust from `cairn/v1/*.proto`: messages, tonic services (behind the `grpc` feature),
//! the descriptor set for reflection, and the field tables that the canonical walk follows.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, error::Error, fs};

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};

fn main() -> Result<(), Box<dyn Error>> {
    let mut files: Vec<PathBuf> = fs::read_dir("cairn/v1")?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "proto"));
    files.sort();
    println!("cargo:rerun-if-changed=cairn/v1");

    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    fs::write(out.join("schema.rs"), schema(&descriptors)?)?;

    tonic_prost_build::configure()
        .bytes(".")
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_fds(descriptors)?;
    Ok(())
}

/// One `Schema` per message: its fields, ascending by tag, as `src/schema.rs` defines them.
fn schema(set: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let mut enums = std::collections::BTreeMap::new();
    for file in &set.file {
        for e in &file.enum_type {
            let numbers: Vec<i32> = e.value.iter().map(|v| v.number()).collect();
            enums.insert(format!(".{}.{}", file.package(), e.name()), numbers);
        }
    }
    let mut text = String::new();
    for file in &set.file {
        for message in &file.message_type {
            message_schema(&mut text, message, &enums)?;
        }
    }
    Ok(text)
}

fn message_schema(
    text: &mut String,
    message: &DescriptorProto,
    enums: &std::collections::BTreeMap<String, Vec<i32>>,
) -> Result<(), Box<dyn Error>> {
    if !message.nested_type.is_empty() || !message.oneof_decl.is_empty() {
        // Requests may use oneofs; they are sent, never signed.
        return Ok(());
    }
    let mut fields = message.field.clone();
    fields.sort_by_key(|f| f.number());
    let mut rows = String::new();
    for field in &fields {
        let kind = match field.r#type() {
            Type::Uint32 => "Kind::Uint32".to_owned(),
            Type::Uint64 => "Kind::Uint64".to_owned(),
            Type::Bool => "Kind::Bool".to_owned(),
            Type::Bytes => "Kind::Bytes".to_owned(),
            Type::String => "Kind::String".to_owned(),
            Type::Enum => format!("Kind::Enum(&{:?})", enums[field.type_name()]),
            Type::Message => {
                let name = field.type_name().rsplit('.').next().unwrap_or_default();
                format!("Kind::Message(&{})", constant(name))
            }
            other => return Err(format!("{}: {other:?} is not allowed", field.name()).into()),
        };
        let repeated = field.label() == Label::Repeated;
        writeln!(
            rows,
            "    Field {{ tag: {}, kind: {kind}, repeated: {repeated} }},",
            field.number()
        )?;
    }
    let name = message.name();
    writeln!(
        text,
        "static {}: Schema = Schema {{ name: \"{name}\", fields: &[\n{rows}] }};\n\
         impl Described for crate::v1::{name} {{ fn schema() -> &'static Schema {{ &{} }} }}",
        constant(name),
        constant(name),
    )?;
    Ok(())
}

/// `LotteryOpen` as `LOTTERY_OPEN`.
fn constant(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.chars().enumerate() {
        if i > 0 && c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}
