//! "Did you mean ...?"

/// The name among `known` that `written` most likely means.
pub fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    // Nobody means a name by this, and comparing takes time.
    if written.len() > 100 {
        return None;
    }
    let plain = |name: &str| name.to_lowercase().replace(['-', ' '], "_");
    let written = plain(written);
    let likeness = |name: &str| {
        let name = plain(name);
        // Slips of the finger by their number; names that begin alike by their beginning; and a name with something
        // added to it, like `apt-get`.
        let slips = strsim::damerau_levenshtein(&written, &name);
        let few = slips <= (written.chars().count() / 4).max(1);
        let alike = strsim::jaro_winkler(&written, &name);
        let added = written.strip_prefix(&name).is_some_and(|rest| rest.starts_with('_'));
        (few || alike > 0.92 || added).then_some((alike, std::cmp::Reverse(slips)))
    };
    let likely = known.iter().filter_map(|name| Some((likeness(name)?, *name)));
    likely.max_by(|(a, _), (b, _)| a.1.cmp(&b.1).then(a.0.total_cmp(&b.0))).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let known = ["apt", "run", "copy", "hostname"];
        for (written, near) in
            [("atp", Some("apt")), ("apt-get", Some("apt")), ("hostnam", Some("hostname")), ("rpm", None), ("x", None)]
        {
            assert_eq!(nearest(written, &known), near, "{written}");
        }
    }
}
