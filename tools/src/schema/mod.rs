//! Makes the table of the built-in Kubernetes types that the API server embeds.
//!
//! It is run by hand for a new Kubernetes version; its output is committed and reviewed. Where the
//! inputs come from is in the README beside the table (`apiserver/src/kube/schema/README.md`).

mod definitions;
mod error;
mod join;
mod messages;
mod table;
mod values;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(crate) use error::SchemaError;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write the table from the OpenAPI definitions and the protobuf messages.
    Generate(Generate),
}

#[derive(Args)]
pub(crate) struct Generate {
    /// The OpenAPI definitions: `_definitions.json` of the PyPI package kubernetes-validate.
    #[arg(long)]
    definitions: PathBuf,
    /// The folder `src` of the crate k8s-pb: generated messages with their field numbers.
    #[arg(long)]
    protobuf: PathBuf,
    /// Field numbers and inline messages that the crate lacks.
    #[arg(long)]
    numbers: PathBuf,
    /// Fields that hold their value directly, see the README.
    #[arg(long)]
    values: PathBuf,
    /// Where to write the table.
    #[arg(long)]
    output: PathBuf,
    /// The Kubernetes version to name in the table's first line.
    #[arg(long)]
    kubernetes_version: String,
}

/// Runs a subcommand of `mainstayctl schema`.
pub(crate) fn run(command: Command) -> Result<(), SchemaError> {
    match command {
        Command::Generate(generate) => generate.run(),
    }
}

impl Generate {
    fn run(&self) -> Result<(), SchemaError> {
        let mut types = definitions::parse(&error::read(&self.definitions)?)?;
        let mut messages = messages::read_folder(&self.protobuf)?;
        let numbers = join::parse_numbers(&error::read(&self.numbers)?)?;
        let report = join::join(&mut types, &mut messages, &numbers)?;
        values::mark(&mut types, &error::read(&self.values)?)?;
        let text = table::render(&self.kubernetes_version, &types);
        error::write(&self.output, &text)?;
        println!("{} types, {} fields, {} bytes", types.len(), report.fields, text.len());
        println!("{} fields without a protobuf number:", report.without_number.len());
        for field in &report.without_number {
            println!("  {field}");
        }
        Ok(())
    }
}
