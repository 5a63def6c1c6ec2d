//! Rules of jobs and cron jobs.

use serde_json::{Value, json};

use super::place::{Errors, Place};
use super::{common, cron, pods, selectors};
use crate::kube::object::{self, Object};
use crate::kube::registry::names;
use crate::kube::status::FieldError;

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const MOST_RULES: usize = 20;
const MOST_EXIT_CODES: usize = 255;
const MOST_MANAGER_BYTES: usize = 63;
const MOST_INDEXED: i64 = 100_000;
/// Names of cron jobs leave room for what the names of their jobs end in.
const MOST_CRON_JOB_NAME_BYTES: usize = 52;

/// The rules of a new job, besides those of [every job](existing_job).
pub fn new_job(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    generated_selector(object, &spec, &mut errors);
    let completions = spec.child("completions").number_or_zero();
    if spec.child("completionMode").text() == "Indexed" && completions > 0 {
        let host_name = format!("{}-{}", object::name(object), completions - 1);
        if !names::dns_label(&host_name).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {host_name}");
            errors.push(FieldError::invalid("metadata.name", object::name(object), why));
        }
    }
    errors
}

fn selected_job_spec(spec: &Place<'_>, errors: &mut Errors) {
    job_spec(spec, errors);
    let selector = spec.child("selector");
    match selector.is_set() {
        false => errors.push(selector.required("")),
        true => selectors::label_selector(&selector, errors),
    }
    let template = spec.child("template");
    let labels = pods::labels_of_template(&template);
    if !selectors::is_broken(&selector) && !selectors::matches(&selector, &labels) {
        let field = template.below(&["metadata", "labels"]);
        let why = "`selector` does not match template `labels`";
        errors.push(field.invalid_as(pods::shown_labels(&template), why));
    }
}

/// A selector that the server has made selects by the job's own labels.
fn generated_selector(object: &Object, spec: &Place<'_>, errors: &mut Errors) {
    let selector = spec.child("selector");
    if spec.child("manualSelector").is_true() || !selector.is_set() {
        return;
    }
    let labels = spec.below(&["template", "metadata", "labels"]);
    let (uid, name) = (object::uid(object), object::name(object));
    let expected = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    let mut all = Object::new();
    for (key, value) in expected {
        all.insert(key.to_owned(), value.into());
        let field = format!("{}[{key}]", labels.path());
        let why = format!("must be '{value}'");
        let found = labels.map().and_then(|labels| labels.get(key)).and_then(Value::as_str);
        match found {
            None => errors.push(FieldError::required(field, &why)),
            Some(own) if own != value => {
                errors.push(FieldError::invalid(field, labels.value().clone(), why));
            }
            Some(_) => {}
        }
    }
    if !selectors::is_broken(&selector) && !selectors::matches(&selector, &all) {
        errors.push(selector.invalid("`selector` not auto-generated"));
    }
}

fn job_spec(spec: &Place<'_>, errors: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        common::non_negative(&spec.child(field), errors);
    }
    let per_index = spec.child("backoffLimitPerIndex");
    if spec.child("maxFailedIndexes").is_set() && !per_index.is_set() {
        errors.push(per_index.required("when maxFailedIndexes is specified"));
    }
    let manager = spec.child("managedBy");
    if manager.is_set() {
        common::domain_prefixed_path(&manager, errors);
        if manager.text().len() > MOST_MANAGER_BYTES {
            errors.push(manager.too_long(MOST_MANAGER_BYTES));
        }
    }
    completion_mode(spec, errors);
    failure_policy(spec, errors);
    success_policy(spec, errors);
    replacement_policy(spec, errors);
    let template = spec.child("template");
    pods::template(&template, &[], errors);
    let policy = template.below(&["spec", "restartPolicy"]);
    match policy.text() {
        "" | "Always" => errors.push(policy.required("valid values: \"OnFailure\", \"Never\"")),
        "Never" => {}
        "OnFailure" if spec.child("podFailurePolicy").is_set() => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(policy.invalid(why));
        }
        "OnFailure" => {}
        _ => errors.push(policy.unsupported(&["OnFailure", "Never"])),
    }
}

fn completion_mode(spec: &Place<'_>, errors: &mut Errors) {
    let mode = spec.child("completionMode");
    common::one_of_if_set(&mode, &["NonIndexed", "Indexed"], errors);
    let [completions, parallelism, most] =
        ["completions", "parallelism", "maxFailedIndexes"].map(|name| spec.child(name));
    match mode.text() {
        "Indexed" => {
            if !completions.is_set() {
                errors.push(completions.required("when completion mode is Indexed"));
            }
            if parallelism.number_or_zero() > MOST_INDEXED {
                let why = format!(
                    "must be less than or equal to {MOST_INDEXED} when completion mode is Indexed"
                );
                errors.push(parallelism.invalid(why));
            }
            if completions.is_set() && most.number_or_zero() > completions.number_or_zero() {
                errors.push(most.invalid("must be less than or equal to completions"));
            }
            if most.number_or_zero() > MOST_INDEXED {
                errors.push(most.invalid(format!("must be less than or equal to {MOST_INDEXED}")));
            }
        }
        "" | "NonIndexed" => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if spec.child(field).is_set() {
                    errors.push(spec.child(field).invalid("requires indexed completion mode"));
                }
            }
        }
        _ => {}
    }
}

/// `[a b]` between double quotes each, as Go's %q shows a list.
fn listing(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn one_of_listed(place: &Place<'_>, words: &[&str], errors: &mut Errors) {
    match place.text() {
        "" => errors.push(place.required(&listing(words))),
        _ => common::listed(place, words, errors),
    }
}

fn failure_policy(spec: &Place<'_>, errors: &mut Errors) {
    let rules = spec.below(&["podFailurePolicy", "rules"]);
    if rules.len() > MOST_RULES {
        errors.push(rules.too_many(MOST_RULES));
    }
    let per_index = spec.child("backoffLimitPerIndex").is_set();
    let lists = ["containers", "initContainers"];
    let containers: Vec<&str> = lists
        .iter()
        .flat_map(|list| spec.below(&["template", "spec", list]).items())
        .map(|container| container.child("name").text())
        .collect();
    for rule in rules.items() {
        let action = rule.child("action");
        match action.text() {
            "FailIndex" if !per_index => {
                errors.push(action.invalid("requires the backoffLimitPerIndex to be set"));
            }
            _ => one_of_listed(&action, &ACTIONS, errors),
        }
        let (codes, conditions) = (rule.child("onExitCodes"), rule.child("onPodConditions"));
        if codes.is_set() {
            exit_codes(&codes, &containers, errors);
        }
        if conditions.len() > MOST_RULES {
            errors.push(conditions.too_many(MOST_RULES));
        }
        for pattern in conditions.items() {
            common::named(&pattern.child("type"), names::qualified_name, errors);
            one_of_listed(&pattern.child("status"), &STATUSES, errors);
        }
        let why = match (codes.is_set(), !conditions.is_empty()) {
            (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(FieldError::invalid_unshown(rule.path(), why));
    }
}

fn exit_codes(codes: &Place<'_>, containers: &[&str], errors: &mut Errors) {
    let operator = codes.child("operator");
    one_of_listed(&operator, &OPERATORS, errors);
    let container = codes.child("containerName");
    if container.is_set() && !containers.contains(&container.text()) {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.push(container.invalid(why));
    }
    let values = codes.child("values");
    if values.is_empty() {
        errors.push(values.invalid("at least one value is required"));
    } else if values.len() > MOST_EXIT_CODES {
        errors.push(values.too_many(MOST_EXIT_CODES));
    }
    let numbers: Vec<i64> = values.items().iter().map(Place::number_or_zero).collect();
    for (index, value) in values.items().iter().enumerate() {
        if operator.text() == "In" && numbers[index] == 0 {
            errors.push(value.invalid("must not be 0 for the In operator"));
        }
        if numbers[..index].contains(&numbers[index]) {
            errors.push(value.duplicate());
        }
    }
    if !numbers.is_sorted() {
        errors.push(values.invalid("must be ordered"));
    }
}

fn success_policy(spec: &Place<'_>, errors: &mut Errors) {
    let policy = spec.child("successPolicy");
    if !policy.is_set() {
        return;
    }
    if spec.child("completionMode").text() != "Indexed" {
        errors.push(policy.invalid("requires indexed completion mode"));
        return;
    }
    let rules = policy.child("rules");
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(rules.required(why));
    }
    if rules.len() > MOST_RULES {
        errors.push(rules.too_many(MOST_RULES));
    }
    let completions = spec.child("completions").number_or_zero();
    for rule in rules.items() {
        let (count, indexes) = (rule.child("succeededCount"), rule.child("succeededIndexes"));
        if !count.is_set() && !indexes.is_set() {
            let why = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(rule.required(why));
        }
        common::non_negative(&count, errors);
        if count.number_or_zero() > completions {
            let why = format!(
                "must be less than or equal to {completions} (the number of specified completions)"
            );
            errors.push(count.invalid(why));
        }
    }
}

fn replacement_policy(spec: &Place<'_>, errors: &mut Errors) {
    let policy = spec.child("podReplacementPolicy");
    if !policy.is_set() {
        return;
    }
    if spec.child("podFailurePolicy").is_set() {
        common::listed(&policy, &["Failed"], errors);
    } else {
        common::listed(&policy, &["Failed", "TerminatingOrFailed"], errors);
    }
}

/// The rules of every job.
pub fn existing_job(object: &Object) -> Errors {
    let mut errors = Errors::new();
    selected_job_spec(&Place::of(object, "spec"), &mut errors);
    errors
}

/// What of a job may not change.
pub fn job_change(new: &Object, old: &Object) -> Errors {
    let mut errors = Errors::new();
    let (now, before) = (Place::of(new, "spec"), Place::of(old, "spec"));
    let completions = now.child("completions");
    let same = object::same(Some(completions.value()), Some(before.child("completions").value()));
    if now.child("completionMode").text() != "Indexed" {
        common::immutable(&completions, &before.child("completions"), &mut errors);
    } else if !same
        && completions.is_set()
        && completions.number() != now.child("parallelism").number()
    {
        let why = "can only be modified in tandem with spec.parallelism";
        errors.push(completions.invalid(why));
    }
    common::immutable(&now.child("selector"), &before.child("selector"), &mut errors);
    template_change(&now, &before, &mut errors);
    for field in
        ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        common::immutable(&now.child(field), &before.child(field), &mut errors);
    }
    errors
}

/// The template stays; a suspended job that has not begun may still be placed otherwise.
fn template_change(now: &Place<'_>, before: &Place<'_>, errors: &mut Errors) {
    let (template, mut old) = (now.child("template"), before.child("template").value().clone());
    if before.child("suspend").is_true() {
        let take = |target: &mut Value, source: &Place<'_>, name: &str| {
            let Some(target) = target.as_object_mut() else { return };
            match source.child(name).value() {
                Value::Null => target.remove(name),
                value => target.insert(name.to_owned(), value.clone()),
            };
        };
        let metadata = template.child("metadata");
        if let Some(own) = old.get_mut("metadata") {
            take(own, &metadata, "annotations");
            take(own, &metadata, "labels");
        }
        let spec = template.child("spec");
        if let Some(own) = old.get_mut("spec") {
            for name in ["nodeSelector", "tolerations", "schedulingGates", "affinity"] {
                take(own, &spec, name);
            }
        }
    }
    if !object::same(Some(template.value()), Some(&old)) {
        errors.push(template.invalid(common::IMMUTABLE));
    }
}

pub fn cron_job(object: &Object) -> Errors {
    let mut errors = Errors::new();
    let spec = Place::of(object, "spec");
    let schedule = spec.child("schedule");
    if schedule.is_empty() {
        errors.push(schedule.required(""));
    } else {
        if let Err(why) = cron::check(schedule.text()) {
            errors.push(schedule.invalid(why));
        }
        if schedule.text().contains("TZ") {
            let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            errors.push(schedule.invalid(why));
        }
    }
    common::non_negative(&spec.child("startingDeadlineSeconds"), &mut errors);
    time_zone(&spec.child("timeZone"), &mut errors);
    let policies = ["Allow", "Forbid", "Replace"];
    common::one_of(&spec.child("concurrencyPolicy"), &policies, &mut errors);
    let job = spec.below(&["jobTemplate", "spec"]);
    job_spec(&job, &mut errors);
    if job.child("selector").is_set() {
        errors.push(job.child("selector").invalid("`selector` will be auto-generated"));
    }
    let manual = job.child("manualSelector");
    if manual.is_true() {
        errors.push(FieldError::not_supported(manual.path(), json!(true), &["nil", "false"]));
    }
    common::non_negative(&spec.child("successfulJobsHistoryLimit"), &mut errors);
    common::non_negative(&spec.child("failedJobsHistoryLimit"), &mut errors);
    errors
}

/// A new cron job has a name that leaves room.
pub fn new_cron_job(object: &Object) -> Errors {
    let name = object::name(object);
    if name.len() <= MOST_CRON_JOB_NAME_BYTES {
        return Errors::new();
    }
    let why = format!("must be no more than {MOST_CRON_JOB_NAME_BYTES} characters");
    vec![FieldError::invalid("metadata.name", name, why)]
}

/// The name of a time zone, as far as its form tells.
fn time_zone(place: &Place<'_>, errors: &mut Errors) {
    if !place.is_set() {
        return;
    }
    let text = place.text();
    if text.is_empty() {
        errors.push(place.invalid("timeZone must be nil or non-empty string"));
        return;
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    let is_part = |part: &str| {
        !part.is_empty()
            && part.len() <= 14
            && !part.starts_with('-')
            && part.bytes().all(fits)
            && !matches!(part, "." | "..")
    };
    if text.eq_ignore_ascii_case("local") {
        let why =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(place.invalid(why));
    } else if !text.split('/').all(is_part) || !is_known_zone(text) {
        errors.push(place.invalid(format!("unknown time zone {text}")));
    }
}

/// Regions of the time zone database, and zones without one.
fn is_known_zone(text: &str) -> bool {
    const REGIONS: [&str; 14] = [
        "Africa",
        "America",
        "Antarctica",
        "Arctic",
        "Asia",
        "Atlantic",
        "Australia",
        "Brazil",
        "Canada",
        "Chile",
        "Etc",
        "Europe",
        "Indian",
        "Pacific",
    ];
    const ALONE: [&str; 44] = [
        "UTC",
        "UCT",
        "GMT",
        "GMT+0",
        "GMT-0",
        "GMT0",
        "Greenwich",
        "Universal",
        "Zulu",
        "CET",
        "CST6CDT",
        "EET",
        "EST",
        "EST5EDT",
        "HST",
        "MET",
        "MST",
        "MST7MDT",
        "PST8PDT",
        "WET",
        "Cuba",
        "Egypt",
        "Eire",
        "Factory",
        "GB",
        "GB-Eire",
        "Hongkong",
        "Iceland",
        "Iran",
        "Israel",
        "Jamaica",
        "Japan",
        "Kwajalein",
        "Libya",
        "NZ",
        "NZ-CHAT",
        "Navajo",
        "PRC",
        "Poland",
        "Portugal",
        "ROC",
        "ROK",
        "Singapore",
        "Turkey",
    ];
    match text.split_once('/') {
        Some((region, city)) => {
            let city_fits = city.as_bytes().first().is_some_and(u8::is_ascii_uppercase);
            (REGIONS.contains(&region) || ["Mexico", "US"].contains(&region)) && city_fits
        }
        None => ALONE.contains(&text) || text == "W-SU",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::registry::into_object;

    fn job_with(more: Value) -> Object {
        let container = json!({
            "name": "c", "image": "i", "imagePullPolicy": "Always",
            "terminationMessagePolicy": "File",
        });
        let mut spec = into_object(json!({
            "manualSelector": true, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                "restartPolicy": "Never", "dnsPolicy": "Default", "containers": [container],
                "terminationGracePeriodSeconds": 30,
            }},
        }));
        spec.extend(into_object(more));
        into_object(json!({"metadata": {"name": "j", "uid": "u"}, "spec": spec}))
    }

    #[test]
    fn jobs_are_checked() {
        let rule = |more: Value| json!({"podFailurePolicy": {"rules": [more]}});
        for (more, expected) in [
            (json!({}), &[][..]),
            (json!({"completionMode": "X"}), &["spec.completionMode"]),
            (json!({"completionMode": "Indexed"}), &["spec.completions"]),
            (json!({"managedBy": "x"}), &["spec.managedBy"]),
            (
                rule(json!({"action": "X"})),
                &["spec.podFailurePolicy.rules[0].action", "spec.podFailurePolicy.rules[0]"],
            ),
            (
                rule(
                    json!({"action": "Ignore", "onExitCodes": {"operator": "In", "values": [2, 1]}}),
                ),
                &["spec.podFailurePolicy.rules[0].onExitCodes.values"],
            ),
            (
                json!({"manualSelector": false}),
                &[
                    "spec.template.metadata.labels[controller-uid]",
                    "spec.template.metadata.labels[job-name]",
                    "spec.template.metadata.labels[batch.kubernetes.io/controller-uid]",
                    "spec.template.metadata.labels[batch.kubernetes.io/job-name]",
                    "spec.selector",
                ],
            ),
        ] {
            let object = job_with(more.clone());
            let errors = new_job(&object).into_iter().chain(existing_job(&object));
            let fields: Vec<String> = errors.map(|error| error.field).collect();
            assert_eq!(fields, expected, "{more}");
        }
    }

    #[test]
    fn time_zones() {
        for (zone, expected) in
            [("UTC", 0), ("Europe/Berlin", 0), ("", 1), ("Local", 1), ("Nope/Nope", 1), ("../x", 1)]
        {
            let value = zone.into();
            let mut errors = Errors::new();
            time_zone(&Place::at("z", &value), &mut errors);
            assert_eq!(errors.len(), expected, "{zone}");
        }
    }

    #[test]
    fn what_of_a_job_may_change() {
        let old = job_with(json!({"completions": 1, "suspend": true}));
        let mut new = job_with(json!({"completions": 2, "suspend": true}));
        new["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
        let fields: Vec<String> = job_change(&new, &old).into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["spec.completions"]);
    }
}
