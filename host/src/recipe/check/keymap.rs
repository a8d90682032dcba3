//! The stage `keymap`: layouts that XKB has.

use super::Checker;
use crate::recipe::near::nearest;
use crate::recipe::path::Path;
use particle_vm_protocol::stage::Keymap;

/// The layouts of XKB, and their variants as `layout variant`: those in `/usr/share/X11/xkb/rules/base.lst` of the package
/// `xkb-data`, of 2.35.1-1 and of 2.42-1 together.
const KEYBOARDS: &str = include_str!("keyboards.txt");

/// The suites that [`KEYBOARDS`] is of; what others have is for them to tell.
const SUITES: [&str; 2] = ["bookworm", "trixie"];

/// What some call a layout whose name in XKB is another.
const OTHERWISE: [(&str, &str); 4] = [("uk", "gb"), ("en", "us"), ("sv", "se"), ("ja", "jp")];

/// Looks at the options.
pub fn keymap(checker: &mut Checker<'_>, path: &Path, options: &Keymap) {
    let layouts: Vec<&str> = KEYBOARDS.lines().filter(|line| !line.contains(' ')).collect();
    let listed = checker.sections.is_of(&SUITES);
    let mut known = listed;
    for layout in options.layout.split(',').filter(|layout| !layouts.contains(layout)) {
        // Consoles have names like `de-latin1`.
        let short = layout.split(['-', '_']).next().filter(|short| *short != layout && layouts.contains(short));
        let other = OTHERWISE.iter().find(|(written, _)| *written == layout).map(|(_, meant)| *meant);
        let near = other.or(short);
        if near.is_none() && !listed && is_name(layout) {
            continue;
        }
        let near = near.or_else(|| nearest(layout, &layouts));
        let help = near.map_or("for instance `us` or `de`".to_owned(), |near| format!("did you mean `{near}`?"));
        checker.advise(&path.key("layout"), format!("there is no keyboard layout `{layout}`"), help);
        known = false;
    }
    if let Some(variant) =
        options.variant.as_ref().filter(|variant| !variant.split(',').all(|one| one.is_empty() || is_name(one)))
    {
        checker.advise(&path.key("variant"), format!("`{variant}` is not a variant"), "for instance `nodeadkeys`");
    } else if let Some(variant) = options.variant.as_ref().filter(|_| known) {
        let path = path.key("variant");
        if variant.split(',').count() > options.layout.split(',').count() {
            checker.report(&path, "there are more variants than layouts");
        }
        for (layout, variant) in options.layouts().filter(|(_, variant)| !variant.is_empty()) {
            let variants = KEYBOARDS.lines().filter_map(|line| line.split_once(' ').filter(|(of, _)| *of == layout));
            let variants: Vec<&str> = variants.map(|(_, variant)| variant).collect();
            if !variants.contains(&variant) {
                let near = nearest(variant, &variants).map(|near| format!("did you mean `{near}`?"));
                let message = format!("the keyboard layout `{layout}` has no variant `{variant}`");
                checker.advise(&path, message, near.unwrap_or_else(|| "leave it out".into()));
            }
        }
    }
    let help = "letters, digits, `_`, `-`, `+` and `:`, for instance `grp:alt_shift_toggle`";
    checker.each(&path.key("options"), &options.options, is_name, "an option of XKB", help);
    if let Some(model) = options.model.as_ref().filter(|model| !is_name(model)) {
        checker.advise(&path.key("model"), format!("`{model}` is not a keyboard model"), "for instance `pc105`");
    }
}

/// Whether it has the form of XKB's names.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-:+".contains(c))
}
