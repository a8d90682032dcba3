//! Names that are like a wrong one.

/// How many are told.
const COUNT: usize = 3;

/// How alike they have to be, from 0 to 1.
const ALIKE: f64 = 0.7;

/// `; did you mean ...?`, or nothing when no name of `known` is like `wrong`.
pub fn hint<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let lower = wrong.to_lowercase();
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        // Who writes `berlin` means `Europe/Berlin`.
        let last = name.rsplit('/').next().unwrap_or(&name);
        strsim::jaro_winkler(&lower, &name).max(strsim::jaro_winkler(&lower, last))
    };
    let mut near: Vec<_> = known.into_iter().map(|name| (likeness(name), name)).collect();
    near.retain(|(likeness, _)| *likeness >= ALIKE);
    near.sort_by(|(left, _), (right, _)| right.total_cmp(left));
    let names: Vec<_> = near.iter().take(COUNT).map(|(_, name)| format!("`{name}`")).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_comes_first() {
        let known = ["Europe/Berlin", "Europe/Bern", "America/New_York", "Asia/Tokyo"];
        assert!(hint("Europe/Berln", known).starts_with("; did you mean `Europe/Berlin`"));
        assert!(hint("berlin", known).starts_with("; did you mean `Europe/Berlin`"));
        assert_eq!(hint("xyz", known), "");
    }
}
