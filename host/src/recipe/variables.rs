//! `${NAME}` in the values of a recipe.
//!
//! What is replaced are values of the tree and not the text, so that every value keeps its place, and no value can
//! become another key or another list.

use super::check::names;
use super::document::{Entry, Kind, MAX_WEIGHT, Node, plain_scalar};
use super::finding::{Finding, Source};
use super::near::nearest;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Values of these keys are shell or file content, where `${NAME}` may mean something else: what is no variable of the
/// recipe is left alone there.
const FREE: [&str; 5] = ["script", "content", "run", "expect", "diag"];

/// A tree whose variables have been replaced.
pub struct Replaced {
    /// The tree.
    pub root: Arc<Node>,
    /// What is wrong with the variables.
    pub findings: Vec<Finding>,
    /// Line and column of the values that lack a variable.
    pub without: BTreeSet<(usize, usize)>,
}

/// The tree with its variables replaced. `given` are the values of the command line, which come before those of the
/// recipe.
pub fn replace(source: &Source, root: &Arc<Node>, given: &BTreeMap<String, String>) -> Replaced {
    let mut variables = Variables {
        source,
        values: BTreeMap::new(),
        useless: BTreeSet::new(),
        grown: 0,
        findings: Vec::new(),
        without: BTreeSet::new(),
    };
    let declared = root.get("variables").map(|node| node.entries()).unwrap_or_default();
    variables.declare(declared, given);
    let root = variables.whole(root);
    Replaced { root, findings: variables.findings, without: variables.without }
}

impl Variables<'_> {
    fn whole(&mut self, root: &Arc<Node>) -> Arc<Node> {
        let Kind::Mapping(entries) = &root.kind else { return Arc::clone(root) };
        let entries = entries.iter().map(|entry| {
            let node = match entry.key.as_str() {
                "variables" => self.in_force(&entry.node),
                _ => self.entry(entry, false),
            };
            Entry { node, ..entry.clone() }
        });
        let kind = Kind::Mapping(entries.collect());
        Arc::new(Node { kind, ..root.as_ref().clone() })
    }
}

struct Variables<'a> {
    source: &'a Source,
    values: BTreeMap<String, String>,
    // Names of variables whose value is none. That is told when the tree is compared with the schema.
    useless: BTreeSet<String>,
    // Bytes that the values have become longer.
    grown: usize,
    findings: Vec<Finding>,
    without: BTreeSet<(usize, usize)>,
}

impl Variables<'_> {
    fn declare(&mut self, declared: &[Entry], given: &BTreeMap<String, String>) {
        for entry in declared {
            if !names::variable(&entry.key) {
                let message = format!("`{}` is not a name of a variable", entry.key);
                let finding = Finding::new(self.source, entry.key_span.clone(), message);
                self.findings.push(finding.help("letters, digits and `_`"));
            }
            match given.get(&entry.key).cloned().or_else(|| self.value(&entry.node)) {
                Some(value) => drop(self.values.insert(entry.key.clone(), value)),
                None => drop(self.useless.insert(entry.key.clone())),
            }
        }
        let known: Vec<&str> = declared.iter().map(|entry| entry.key.as_str()).collect();
        for name in given.keys().filter(|name| !known.contains(&name.as_str())) {
            let help = match nearest(name, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("declare it in the recipe with its default value: `variables: {{ {name}: ... }}`"),
            };
            let message = format!("`--set {name}`: the recipe has no variable of this name");
            self.findings.push(Finding::of_file(self.source.name(), message).help(help));
        }
    }

    /// The value of a variable: text, and as it is written where YAML takes it for something else.
    fn value(&self, node: &Node) -> Option<String> {
        match &node.kind {
            Kind::Scalar { value: Value::String(text), .. } => Some(text.clone()),
            Kind::Scalar { value: Value::Bool(_) | Value::Number(_), .. } => {
                self.source.text().get(node.span.clone()).map(str::to_owned)
            }
            _ => None,
        }
    }

    /// The part `variables` with the values in force.
    fn in_force(&self, node: &Arc<Node>) -> Arc<Node> {
        let Kind::Mapping(entries) = &node.kind else { return Arc::clone(node) };
        let entries = entries.iter().map(|entry| match (&entry.node.kind, self.values.get(&entry.key)) {
            (Kind::Scalar { plain, .. }, Some(value)) => {
                let kind = Kind::Scalar { value: Value::String(value.clone()), plain: *plain };
                Entry { node: Arc::new(Node { kind, ..entry.node.as_ref().clone() }), ..entry.clone() }
            }
            _ => entry.clone(),
        });
        Arc::new(Node { kind: Kind::Mapping(entries.collect()), ..node.as_ref().clone() })
    }

    fn entry(&mut self, entry: &Entry, free: bool) -> Arc<Node> {
        if entry.key.contains("${") && self.values.keys().any(|name| entry.key.contains(&format!("${{{name}}}"))) {
            let finding = Finding::new(self.source, entry.key_span.clone(), "a key cannot have a variable in it");
            self.findings.push(finding.help("variables stand in values only"));
        }
        self.node(&entry.node, free || FREE.contains(&entry.key.as_str()))
    }

    fn node(&mut self, node: &Arc<Node>, free: bool) -> Arc<Node> {
        let kind = match &node.kind {
            Kind::Scalar { value: Value::String(text), plain } if text.contains("${") => {
                let replaced = self.text(text, node, free);
                let value = if *plain { plain_scalar(&replaced) } else { Value::String(replaced) };
                Kind::Scalar { value, plain: *plain }
            }
            Kind::Scalar { .. } => return Arc::clone(node),
            Kind::List(items) => Kind::List(items.iter().map(|item| self.node(item, free)).collect()),
            Kind::Mapping(entries) => {
                let entries = entries.iter().map(|entry| Entry { node: self.entry(entry, free), ..entry.clone() });
                Kind::Mapping(entries.collect())
            }
        };
        Arc::new(Node { kind, ..node.as_ref().clone() })
    }

    fn text(&mut self, text: &str, node: &Node, free: bool) -> String {
        let mut replaced = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            replaced.push_str(before);
            let (name, behind) = match after.split_once('}') {
                Some((name, behind)) => (name, Some(behind)),
                None => (after, None),
            };
            match (self.values.get(name), behind) {
                (Some(value), Some(behind)) if self.grown + value.len() <= MAX_WEIGHT => {
                    self.grown += value.len();
                    replaced.push_str(value);
                    rest = behind;
                    continue;
                }
                (Some(_), Some(_)) => {
                    let message =
                        format!("with its variables replaced the recipe takes more than {} MiB", MAX_WEIGHT >> 20);
                    self.findings.push(Finding::new(self.source, node.span.clone(), message));
                    self.without.insert(self.place(node));
                    return String::new();
                }
                _ if free => {}
                _ if self.useless.contains(name) => drop(self.without.insert(self.place(node))),
                _ => self.unknown(name, node),
            }
            replaced.push_str("${");
            rest = after;
        }
        replaced + rest
    }

    fn place(&self, node: &Node) -> (usize, usize) {
        self.source.position(node.span.start)
    }

    fn unknown(&mut self, name: &str, node: &Node) {
        self.without.insert(self.place(node));
        let known: Vec<&str> = self.values.keys().map(String::as_str).collect();
        let finding = if names::variable(name) {
            let help = match nearest(name, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("declare it: `variables: {{ {name}: ... }}`"),
            };
            Finding::new(self.source, node.span.clone(), format!("there is no variable `{name}`")).help(help)
        } else {
            Finding::new(self.source, node.span.clone(), "`${` begins the name of a variable, and none follows")
                .help("a variable is written as `${NAME}`")
        };
        self.findings.push(finding);
    }
}
