//! `keymap`: the layout of the keyboard, on the console and wherever else Debian has it from.

use super::{Site, apt, wrong};
use crate::near;
use particle_vm_protocol::Failure;
use particle_vm_protocol::stage::Keymap;

/// The keyboard of the machine, keyboard(5).
const SETTING: &str = "/etc/default/keyboard";

/// What XKB knows, by sections: `! layout`, and lines of a name and what it means.
const RULES: &str = "/usr/share/X11/xkb/rules/base.lst";

/// Set it.
pub(super) fn perform(site: &mut Site<'_>, options: &Keymap) -> Result<(), Failure> {
    if !site.in_deployment {
        apt::install(site, &[Keymap::PACKAGE], false)?;
    } else if !site.has_program("setupcon")? {
        return Err(wrong(format!(
            "there is no `{}`, which sets the keyboard at boot, and /usr is read-only in a deployment; install it in \
             the container image, or before the stage that deploys",
            Keymap::PACKAGE
        )));
    }
    let tree = site.tree()?;
    check(&tree.read_text(RULES)?, options)?;
    tree.write(SETTING, setting(options), 0o644)?;
    // The console is set at boot from what this makes, before anything else is there.
    let command = site.command("setupcon")?.arg("--save-only");
    site.context.run(&command)
}

/// The file for a keyboard.
fn setting(options: &Keymap) -> String {
    format!(
        "XKBMODEL=\"{}\"\nXKBLAYOUT=\"{}\"\nXKBVARIANT=\"{}\"\nXKBOPTIONS=\"{}\"\n\nBACKSPACE=\"guess\"\n",
        options.model.as_deref().unwrap_or("pc105"),
        options.layout,
        options.variant.as_deref().unwrap_or_default(),
        options.options.join(",")
    )
}

/// Whether XKB's `rules` know the keyboard. ckbcomp(1) takes others, and leaves out what it does not find.
fn check(rules: &str, options: &Keymap) -> Result<(), Failure> {
    for (layout, variant) in options.layouts() {
        known(rules, "layout", layout, "")?;
        if !variant.is_empty() {
            known(rules, "variant", variant, &format!("{layout}:"))?;
        }
    }
    options.model.iter().try_for_each(|model| known(rules, "model", model, ""))?;
    options.options.iter().try_for_each(|option| known(rules, "option", option, ""))
}

/// Whether `section` of the rules has `name`, with a meaning that begins with `meaning`.
fn known(rules: &str, section: &str, name: &str, meaning: &str) -> Result<(), Failure> {
    let heading = format!("! {section}");
    let lines = rules.lines().skip_while(|line| line.trim_end() != heading).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('!'));
    let names = lines.filter_map(|line| line.trim().split_once(char::is_whitespace));
    let names = names.filter(|(_, text)| text.trim_start().starts_with(meaning)).map(|(name, _)| name);
    if names.clone().any(|known| known == name) {
        return Ok(());
    }
    let of = meaning.trim_end_matches(':');
    let of = if of.is_empty() { String::new() } else { format!(" of the layout `{of}`") };
    Err(wrong(format!("XKB has no {section} `{name}`{of}{}", near::hint(name, names))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "! model\n  pc105           Generic 105-key PC\n\n! layout\n  us              English (US)\n  \
                         de              German\n  ru              Russian\n\n! variant\n  nodeadkeys      de: German \
                         (no dead keys)\n  phonetic        ru: Russian (phonetic)\n\n! option\n  grp:alt_shift_toggle \
                         Alt+Shift\n";

    fn keymap(layout: &str, variant: Option<&str>) -> Keymap {
        Keymap { layout: layout.into(), variant: variant.map(str::to_owned), model: None, options: Vec::new() }
    }

    #[test]
    fn the_file_is_that_of_the_manual_page() {
        let options = Keymap { options: vec!["grp:alt_shift_toggle".into()], ..keymap("us,ru", Some(",phonetic")) };
        check(RULES, &options).unwrap();
        assert_eq!(
            setting(&options),
            "XKBMODEL=\"pc105\"\nXKBLAYOUT=\"us,ru\"\nXKBVARIANT=\",phonetic\"\nXKBOPTIONS=\"grp:alt_shift_toggle\"\n\n\
             BACKSPACE=\"guess\"\n"
        );
    }

    #[test]
    fn what_xkb_has_not_is_told() {
        let message = |options: &Keymap| check(RULES, options).unwrap_err().message;
        assert_eq!(message(&keymap("dee", None)), "XKB has no layout `dee`; did you mean `de`?");
        let variant = keymap("us,de", Some("nodeadkeys,nodeadkeys"));
        assert_eq!(message(&variant), "XKB has no variant `nodeadkeys` of the layout `us`");
        let model = Keymap { model: Some("us".into()), ..keymap("de", None) };
        assert!(message(&model).starts_with("XKB has no model `us`"));
        let option = Keymap { options: vec!["grp:x".into()], ..keymap("de", Some("nodeadkeys")) };
        assert!(message(&option).starts_with("XKB has no option `grp:x`"));
    }
}
