//! Images made by code, looked into.

mod engines;
mod hostile;
mod initramfs;
mod make;
mod merge;
mod traps;

use super::*;
use make::Image;

/// The report of an image that is as it should be but for what `change` does to it.
fn report_of(image: Image, change: impl FnOnce(&mut Image)) -> Report {
    let mut image = image;
    change(&mut image);
    image.report().unwrap()
}

fn codes(report: &Report, least: Severity) -> Vec<&'static str> {
    report.findings.iter().filter(|finding| finding.severity <= least).map(|finding| finding.code).collect()
}
