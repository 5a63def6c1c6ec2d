//! Rules of security contexts.

use super::common;
use super::place::{Errors, Place};
use crate::kube::status::FieldError;

const MOST_ID: i64 = i32::MAX as i64;
const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
const MOST_PROFILE_BYTES: usize = 4095;
const MOST_SYSCTL_BYTES: usize = 253;
const SYSCTL_PATTERN: &str =
    "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn id(place: &Place<'_>, errors: &mut Errors) {
    common::within(place, 0, MOST_ID, errors);
}

/// `securityContext` of a container.
pub fn container(place: &Place<'_>, host_users: bool, errors: &mut Errors) {
    id(&place.child("runAsUser"), errors);
    id(&place.child("runAsGroup"), errors);
    let mount = place.child("procMount");
    common::one_of_if_set(&mount, &["Default", "Unmasked"], errors);
    if host_users && mount.text() == "Unmasked" {
        errors.push(mount.invalid("`hostUsers` must be false to use `Unmasked`"));
    }
    seccomp(&place.child("seccompProfile"), errors);
    if place.child("allowPrivilegeEscalation").is_false() {
        if place.child("privileged").is_true() {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(go_context(place, why));
        }
        for _ in place
            .below(&["capabilities", "add"])
            .texts()
            .iter()
            .filter(|one| **one == "CAP_SYS_ADMIN")
        {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(go_context(place, why));
        }
    }
    app_armor(&place.child("appArmorProfile"), errors);
}

/// The whole context is shown by the names that it has inside of kube-apiserver.
fn go_context(place: &Place<'_>, why: &str) -> FieldError {
    let fields = [
        "Capabilities",
        "Privileged",
        "SELinuxOptions",
        "WindowsOptions",
        "RunAsUser",
        "RunAsGroup",
        "RunAsNonRoot",
        "ReadOnlyRootFilesystem",
        "AllowPrivilegeEscalation",
        "ProcMount",
        "SeccompProfile",
        "AppArmorProfile",
    ];
    let texts: Vec<String> = fields
        .iter()
        .map(|name| {
            let json_name = match *name {
                "SELinuxOptions" => "seLinuxOptions".to_owned(),
                name => name[..1].to_lowercase() + &name[1..],
            };
            let value = place.child(&json_name);
            if *name == "Capabilities" && value.is_set() {
                let add = value.child("add").value();
                return format!(
                    "\"{name}\":{{\"Add\":{add},\"Drop\":{}}}",
                    value.child("drop").value()
                );
            }
            format!("\"{name}\":{}", value.value())
        })
        .collect();
    FieldError::invalid_raw(place.path(), &format!("{{{}}}", texts.join(",")), why)
}

/// `securityContext` of a pod.
pub fn pod(spec: &Place<'_>, errors: &mut Errors) {
    let place = spec.child("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&place.child(field), errors);
    }
    for group in place.child("supplementalGroups").items() {
        id(&group, errors);
    }
    let share = spec.child("shareProcessNamespace");
    if share.is_true() && spec.child("hostPID").is_true() {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        let place = share.called(format!("{}.shareProcessNamespace", place.path()));
        errors.push(place.invalid(why));
    }
    sysctls(&place.child("sysctls"), spec, errors);
    let policy = place.child("fsGroupChangePolicy");
    common::one_of_if_set(&policy, &["Always", "OnRootMismatch"], errors);
    seccomp(&place.child("seccompProfile"), errors);
    app_armor(&place.child("appArmorProfile"), errors);
    let policy = place.child("supplementalGroupsPolicy");
    common::one_of_if_set(&policy, &["Merge", "Strict"], errors);
    let policy = place.child("seLinuxChangePolicy");
    common::one_of_if_set(&policy, &["MountOption", "Recursive"], errors);
}

fn is_sysctl(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_segment = |segment: &str| {
        let bytes = segment.as_bytes();
        bytes.iter().all(|byte| fits(*byte) || b"-_".contains(byte))
            && bytes.first().is_some_and(|byte| fits(*byte))
            && bytes.last().is_some_and(|byte| fits(*byte))
    };
    name.len() <= MOST_SYSCTL_BYTES && name.split(['.', '/']).all(is_segment)
}

fn sysctls(place: &Place<'_>, spec: &Place<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for sysctl in place.items() {
        let name = sysctl.child("name");
        let text = name.text();
        if text.is_empty() {
            errors.push(name.required(""));
        } else if !is_sysctl(text) {
            let why = format!(
                "must have at most {MOST_SYSCTL_BYTES} characters and match regex {SYSCTL_PATTERN}"
            );
            errors.push(name.invalid_text(why));
        } else if seen.contains(&text) {
            errors.push(name.duplicate());
        }
        seen.push(text);
        let dotted = text.replace('/', ".");
        if spec.child("hostNetwork").is_true() && dotted.starts_with("net.") {
            errors.push(name.invalid_text("may not be specified when 'hostNetwork' is true"));
        }
        let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue.", "kernel.sem"];
        if spec.child("hostIPC").is_true() && ipc.iter().any(|prefix| dotted.starts_with(prefix)) {
            errors.push(name.invalid_text("may not be specified when 'hostIPC' is true"));
        }
    }
}

fn seccomp(place: &Place<'_>, errors: &mut Errors) {
    if !place.is_set() {
        return;
    }
    let (kind, profile) = (place.child("type"), place.child("localhostProfile"));
    match kind.text() {
        "" => errors.push(kind.required("type is required when seccompProfile is set")),
        _ => common::listed(&kind, &PROFILES, errors),
    }
    if kind.text() == "Localhost" {
        match profile.is_set() {
            true => common::descending_path(&profile, errors),
            false => {
                errors.push(profile.required("must be set when seccomp type is Localhost"));
            }
        }
    } else if profile.is_set() {
        let shown =
            format!("{{\"Type\":\"{}\",\"LocalhostProfile\":\"{}\"}}", kind.text(), profile.text());
        let why = "can only be set when seccomp type is Localhost";
        errors.push(FieldError::invalid_raw(profile.path(), &shown, why));
    }
}

fn app_armor(place: &Place<'_>, errors: &mut Errors) {
    if !place.is_set() {
        return;
    }
    let (kind, profile) = (place.child("type"), place.child("localhostProfile"));
    let needed = "must be set when AppArmor type is Localhost";
    match kind.text() {
        "Localhost" => {
            let text = profile.text();
            if text.trim() != text {
                errors.push(profile.invalid_text("must not be padded with whitespace"));
            } else if text.is_empty() {
                errors.push(profile.required(needed));
            }
            if text.len() > MOST_PROFILE_BYTES {
                errors.push(profile.too_long(MOST_PROFILE_BYTES));
            }
        }
        "RuntimeDefault" | "Unconfined" if profile.is_set() => {
            errors.push(profile.invalid("can only be set when AppArmor type is Localhost"));
        }
        "RuntimeDefault" | "Unconfined" => {}
        "" => errors.push(kind.required("type is required when appArmorProfile is set")),
        _ => errors.push(kind.unsupported(&PROFILES)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn contexts_are_checked() {
        for (context, expected) in [
            (json!({"runAsUser": 0}), 0),
            (json!({"runAsUser": -1}), 1),
            (json!({"seccompProfile": {"type": "Localhost"}}), 1),
            (json!({"seccompProfile": {"type": "X"}}), 1),
            (json!({"seccompProfile": {"type": "RuntimeDefault"}}), 0),
            (json!({"privileged": true, "allowPrivilegeEscalation": false}), 1),
            (json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": " a"}}), 1),
            (json!({"procMount": "Unmasked"}), 1),
        ] {
            let mut errors = Errors::new();
            container(&Place::at("c", &context), true, &mut errors);
            assert_eq!(errors.len(), expected, "{context}: {errors:?}");
        }
        assert!(is_sysctl("net.ipv4.tcp_syncookies"));
        assert!(!is_sysctl("net..x"));
    }
}
