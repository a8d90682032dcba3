//! What the shape of a recipe does not tell: whether its values make sense, alone and together.

use super::document::Node;
use super::finding::{Finding, Source};
use super::path::Path;
use super::sections::Sections;
use std::path::Path as FilePath;

/// Everything that is wrong with the values of `sections`.
pub fn check(source: &Source, root: &Node, folder: &FilePath, sections: &Sections) -> Vec<Finding> {
    let _ = (source, root, folder, sections, Path::root());
    Vec::new()
}
