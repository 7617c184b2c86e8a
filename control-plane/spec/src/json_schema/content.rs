//! `content`: files, repositories, archives.

use serde_json::Value;

use super::field::{Fields, flag, integer, list, not_both, object, one_of, scalar, see, text};

pub(super) fn definitions() -> Fields {
    vec![("content", content())]
}

fn content() -> Value {
    object(
        "Files that are put into the pod.",
        &[],
        vec![
            ("files", list(&file(), "Files that are written.")),
            ("git", git()),
            ("tarball", list(&tarball(), "Archives that are unpacked.")),
        ],
    )
}

fn file() -> Value {
    let file = object(
        "A file.",
        &["path"],
        vec![
            ("path", text("Where it is.")),
            ("content", text("What it holds, a template.")),
            (
                "contentFrom",
                see("source", "Where its content comes from."),
            ),
            (
                "mode",
                integer(0, 0o7777, "Its permission bits, such as 0644."),
            ),
        ],
    );
    not_both(file, &[["content", "contentFrom"]])
}

fn git() -> Value {
    let from = || see("source", "Where it comes from.");
    let git = object(
        "A repository.",
        &[],
        vec![
            ("uri", text("Its address.")),
            ("revision", scalar("A branch, tag or commit.")),
            ("username", text("The user.")),
            ("usernameFrom", from()),
            ("token", text("The token or password.")),
            ("tokenFrom", from()),
            ("sshKey", text("A private key.")),
            ("sshKeyFrom", from()),
            (
                "authType",
                one_of(
                    &["basic", "header", ""],
                    "How the token is sent: as a password, or as a bearer.",
                ),
            ),
            (
                "mountPath",
                text("The folder for it; /data/repo when not said."),
            ),
            ("cone", flag("`paths` are folders.")),
            ("paths", list(&text("A path."), "All that is wanted of it.")),
            ("verbose", flag("git's own progress is in the log.")),
            (
                "retry",
                object(
                    "How often it is tried again.",
                    &[],
                    vec![("count", integer(0, 20, "Most tries after the first one."))],
                ),
            ),
        ],
    );
    not_both(
        git,
        &[
            ["username", "usernameFrom"],
            ["token", "tokenFrom"],
            ["sshKey", "sshKeyFrom"],
        ],
    )
}

fn tarball() -> Value {
    object(
        "An archive, .tar or .tar.gz.",
        &["url", "path"],
        vec![
            ("url", text("Its address.")),
            ("path", text("The folder for its content.")),
            ("mount", flag("The folder is a volume of its own.")),
        ],
    )
}
