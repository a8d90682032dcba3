//! Debian's GRUB, for BIOS and UEFI on one disk.

use super::{Target, arguments, esp};
use particle_vm_protocol::stage::Firmware;
use particle_vm_protocol::{Failure, Plan};
use std::path::Path;

/// What `update-grub` reads beside `/etc/default/grub`, which belongs to the package.
pub const SETTINGS: &str = "/etc/default/grub.d/particle-vm.cfg";

/// Where apt's configuration has what [`UPDATES`] says.
pub const UPDATES_PATH: &str = "/etc/apt/apt.conf.d/90particle-vm-grub";

/// An update of GRUB in the installed system reaches the GRUB for BIOS too. No package does that here: `grub-pc-bin` has
/// modules only, and `grub-pc` wants a disk by a name that no image can know. So apt(8) compares, whenever dpkg(1) has
/// run, the module that has the version in it, and installs GRUB on the disk that it lies on. A failure is told and is
/// none of apt's: the GRUB that is there goes on with the modules that it came with.
pub const UPDATES: &str = "\
// GRUB for BIOS follows updates of its package; the disk is the one that /boot/grub lies on.
DPkg::Post-Invoke {
  \"new=/usr/lib/grub/i386-pc/normal.mod; old=/boot/grub/i386-pc/normal.mod; \
if test -e $new && test -e $old && ! cmp -s $new $old; then \
grub-install --target=i386-pc $(grub-probe --target=disk /boot/grub) || echo 'GRUB for BIOS was not updated' >&2; \
fi\";
};
";

/// The settings: the command line of the kernel, the menu, and a serial console when the kernel has one.
pub fn settings(plan: &Plan, timeout: u32) -> String {
    let arguments = arguments(plan);
    let mut settings = format!(
        "GRUB_CMDLINE_LINUX={}\nGRUB_CMDLINE_LINUX_DEFAULT=\"\"\nGRUB_TIMEOUT={timeout}\nGRUB_DISABLE_OS_PROBER=true\n",
        quote(&escape(&arguments.join(" ")))
    );
    match arguments.iter().rev().find_map(|argument| serial(argument)) {
        Some((unit, speed)) => {
            settings += "GRUB_TERMINAL=\"console serial\"\n";
            settings += &format!("GRUB_SERIAL_COMMAND=\"serial --unit={unit} --speed={speed}\"\n");
        }
        None => settings += "GRUB_TERMINAL=\"console\"\n",
    }
    settings
}

/// Unit and speed of `console=ttyS0,115200n8`.
pub(super) fn serial(argument: &str) -> Option<(u32, u32)> {
    let (unit, options) =
        argument.strip_prefix("console=ttyS").map(|rest| rest.split_once(',').unwrap_or((rest, "")))?;
    let digits: String = options.chars().take_while(char::is_ascii_digit).collect();
    Some((unit.parse().ok()?, digits.parse().unwrap_or(115_200)))
}

/// Text as GRUB reads it: its configuration is a script too, into which the shell that writes it puts the arguments as
/// they are. (Quotes and backslashes a recipe's arguments do not have.)
fn escape(text: &str) -> String {
    let special = |character: char| "$;&|<>{}#".contains(character);
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// A word of the shell that reads the settings.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Put GRUB on the disk and write its configuration.
pub(super) fn install(target: &Target<'_>, firmware: &[Firmware]) -> Result<(), Failure> {
    if firmware.contains(&Firmware::Bios) {
        target.run("grub-install", &["--target=i386-pc", "--boot-directory=/boot", &display(target.device)])?;
    }
    if firmware.contains(&Firmware::Uefi) {
        // Twice on the partition: under the vendor's name, where updates of the package expect it, and under the name
        // that firmware starts from a disk that it knows nothing about.
        let esp = format!("--efi-directory={}", esp(target.plan)?);
        let arguments =
            ["--target=x86_64-efi", "--boot-directory=/boot", &esp, "--no-nvram", "--force-extra-removable"];
        target.run("grub-install", &arguments)?;
    }
    target.run("update-grub", &[])
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_console_is_recognised() {
        assert_eq!(serial("console=ttyS0"), Some((0, 115_200)));
        assert_eq!(serial("console=ttyS1,9600n8"), Some((1, 9600)));
        assert_eq!(serial("console=tty0"), None);
    }

    #[test]
    fn a_command_line_survives_the_shell() {
        assert_eq!(quote("a='b c'"), "'a='\\''b c'\\'''");
    }

    #[test]
    fn a_command_line_survives_grub() {
        assert_eq!(escape("memmap=4G$4G a;b c=#d"), r"memmap=4G\$4G a\;b c=\#d");
        assert_eq!(escape("console=ttyS0,115200n8 x=a-b_c.d:e"), "console=ttyS0,115200n8 x=a-b_c.d:e");
    }
}
