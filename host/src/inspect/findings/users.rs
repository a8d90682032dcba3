//! Findings about who can log in.

use super::super::os::Password;
use super::Look;

pub(super) fn all(look: &mut Look<'_>) {
    let users = &look.facts.users;
    let open: Vec<_> =
        users.iter().filter(|user| user.password == Password::Empty).map(|user| user.name.as_str()).collect();
    if !open.is_empty() {
        look.warning(
            "empty-password",
            format!("no password is asked for: {}", open.join(", ")),
            "RUN passwd --lock NAME, and set one with the stage `users` of the recipe",
        );
    }
    let known: Vec<_> =
        users.iter().filter(|user| user.password == Password::Set).map(|user| user.name.as_str()).collect();
    if !known.is_empty() {
        look.note(
            "baked-password",
            format!("every machine has the same password for: {}", known.join(", ")),
            "RUN passwd --lock NAME, and set one for each machine with the stage `users` of the recipe",
        );
    }
    if !users.is_empty() && users.iter().all(|user| user.password == Password::Locked) {
        look.note(
            "nobody-can-log-in",
            "no user has a password; unless there are ssh keys, nobody can log in",
            "add the stage `users` to the recipe",
        );
    }
    let people: Vec<_> = users.iter().filter(|user| user.uid != 0).collect();
    if look.is_deployed() && !people.is_empty() {
        let names: Vec<_> = people.iter().map(|user| user.name.as_str()).collect();
        look.note(
            "users-in-image",
            format!(
                "users of the image reach a machine only as long as nobody has changed its /etc/passwd: {}",
                names.join(", ")
            ),
            "describe them in /usr/lib/sysusers.d, or add the stage `users` to the recipe",
        );
        let homes: Vec<_> = people.iter().filter(|user| !look.tree.has(user.home.trim_start_matches('/'))).collect();
        if !homes.is_empty() {
            let names: Vec<_> = homes.iter().map(|user| format!("{} ({})", user.name, user.home)).collect();
            look.note(
                "users-without-home",
                format!("users whose home is not in the image: {}", names.join(", ")),
                "RUN echo 'session required pam_mkhomedir.so' >> /etc/pam.d/common-session, or a line of tmpfiles.d(5)",
            );
        }
    }
}
