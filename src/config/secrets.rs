//! Secrets: named in the file by environment variable or by file, never written into it.

use super::Login;
use super::read::Surroundings;
use crate::base::section::Section;
use secrecy::SecretString;

/// `<what>_env` or `<what>_file`. `None` where neither is given, or a fault has been noted.
pub fn secret(section: &Section<'_, '_>, what: &str, around: &Surroundings<'_>) -> Option<SecretString> {
    refuse_in_clear(section, what);
    let (env_key, file_key) = (format!("{what}_env"), format!("{what}_file"));
    let (by_env, by_file) = (section.text(&env_key), section.text(&file_key));
    if by_env.is_some() && by_file.is_some() {
        let message = format!("both `{env_key}` and `{file_key}` are given");
        section.fault(section.place_of(&file_key), message, "Keep one of them.");
        return None;
    }
    if let Some(name) = by_env {
        let value = (around.environment)(name.get_ref()).filter(|value| !value.is_empty());
        if value.is_none() {
            let message = format!("the environment has no variable {} for `{env_key}`", name.get_ref());
            section.fault(name.span().start, message, format!("Set {} for this process.", name.get_ref()));
        }
        return value.map(SecretString::from);
    }
    let path = by_file?;
    let full = around.folder.join(path.get_ref());
    match std::fs::read_to_string(&full) {
        Ok(text) => Some(SecretString::from(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(error) => {
            let message = format!("`{file_key}`: {} cannot be read: {error}", full.display());
            section.fault(path.span().start, message, "Make it readable for this process, or use the environment.");
            None
        }
    }
}

/// `username` with its password. Either alone is a fault.
pub fn login(section: &Section<'_, '_>, around: &Surroundings<'_>) -> Option<Login> {
    let username = section.text("username");
    let password = secret(section, "password", around);
    let has_password = section.has("password_env") || section.has("password_file");
    match (username, password) {
        (Some(username), Some(password)) => Some(Login { username: username.into_inner(), password }),
        (Some(username), None) if !has_password => {
            let message = format!("{} has a username and no password", section.title());
            section.fault(username.span().start, message, "Add password_env or password_file.");
            None
        }
        (None, Some(_)) => {
            let message = format!("{} has a password and no username", section.title());
            section.fault(section.place(), message, "Add username.");
            None
        }
        _ => None,
    }
}

fn refuse_in_clear(section: &Section<'_, '_>, what: &str) {
    if section.text(what).is_some() {
        let message = format!("`{what}` in {} is written in the file", section.title());
        let remedy = format!("Put it into the environment or a file of its own and name that by {what}_env or {what}_file.");
        section.fault(section.place_of(what), message, remedy);
    }
}

/// Credentials inside of a URI would be printed with it.
pub fn refuse_in_uri(section: &Section<'_, '_>, key: &str, uri: &str) {
    let authority = uri.split_once("://").map_or(uri, |(_, rest)| rest).split('/').next().unwrap_or("");
    if authority.contains('@') {
        let message = format!("`{key}` in {} carries credentials", section.title());
        section.fault(section.place_of(key), message, "Take them out and use username with password_env or password_file.");
    }
}
