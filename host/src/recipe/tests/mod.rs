//! Every finding has its message and its place: tables of small recipes and of what is said about them.

mod base;
mod commits;
mod containers;
mod disk;
mod files;
mod shape;
mod stages;
mod text;
mod variables;

use super::*;
use std::fmt::Write;

/// A recipe in which nothing is wrong, one line for each part.
const GOOD: &str = "name: good
stages:
  - { type: debootstrap, options: { suite: trixie } }
  - { type: kernel }
  - { type: bootloader, options: { timeout: 1 } }
disk: { size: 4GiB }
";

fn findings(text: &str, folder: &FilePath) -> Vec<Finding> {
    match parse(Source::new("r.yml", text), folder, &BTreeMap::new()) {
        Ok(_) => Vec::new(),
        Err(findings) => findings.iter().cloned().collect(),
    }
}

/// Each finding as `line:column message | help`.
fn said(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    said_in(text, folder.path())
}

fn said_in(text: &str, folder: &FilePath) -> String {
    told(&findings(text, folder))
}

/// A line for each finding.
fn told(findings: &[Finding]) -> String {
    findings.iter().fold(String::new(), |mut said, finding| {
        let help = finding.help.as_ref().map(|help| format!(" | {help}")).unwrap_or_default();
        writeln!(said, "{}:{} {}{help}", finding.line, finding.column, finding.message).unwrap();
        said
    })
}

/// Compares what is said about each recipe; `make` turns the first column into one.
fn table(make: fn(&str) -> String, rows: &[(&str, &str)]) {
    table_in(tempfile::tempdir().unwrap().path(), make, rows);
}

/// The same with the files of a folder.
fn table_in(folder: &FilePath, make: fn(&str) -> String, rows: &[(&str, &str)]) {
    let mut wrong = String::new();
    for (part, expected) in rows {
        let said = said_in(&make(part), folder);
        if said.trim_end() != *expected {
            writeln!(wrong, "{part}\n  expected: {expected}\n  said:     {}", said.trim_end()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The good recipe with one more stage, in line 6.
fn with_stage(stage: &str) -> String {
    GOOD.replace("disk:", &format!("  - {{ type: {stage} }}\ndisk:"))
}

/// The good recipe with another disk, in line 6.
fn with_disk(disk: &str) -> String {
    GOOD.replace("{ size: 4GiB }", disk)
}

/// The good recipe and one more line, number 7.
fn with_line(line: &str) -> String {
    format!("{GOOD}{line}\n")
}

#[test]
fn the_good_recipe_is_good() {
    assert_eq!(said(GOOD), "");
}
