//! The paths of Ironic's later microversions, for the fault that names the version.

use super::version::Microversion;

/// The paths below `/v1/`, each with its first microversion. A `*` stands for one segment; a path includes those below.
const PATHS: [(&str, u16); 14] = [
    ("events", 54),
    ("deploy_templates", 55),
    ("nodes/*/management/indicators", 63),
    ("nodes/*/states/boot_mode", 76),
    ("nodes/*/states/secure_boot", 76),
    ("nodes/*/history", 78),
    ("nodes/*/inventory", 81),
    ("shards", 82),
    ("nodes/*/children", 83),
    ("continue_inspection", 84),
    ("nodes/*/firmware", 86),
    ("nodes/*/vmedia", 89),
    ("runbooks", 92),
    ("inspection_rules", 96),
];

/// The first microversion of a path, if the path is newer than the last supported one.
pub(super) fn first_version(path: &str) -> Option<Microversion> {
    let path = path.strip_prefix("/v1/")?;
    let is_below = |pattern: &str| {
        let mut segments = path.split('/');
        pattern.split('/').all(|part| segments.next().is_some_and(|segment| part == "*" || part == segment))
    };
    let (_, since) = PATHS.iter().find(|(pattern, _)| is_below(pattern))?;
    Some(Microversion(*since)).filter(|since| *since > Microversion::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_later_versions_are_known() {
        for (path, since) in [
            ("/v1/deploy_templates", Some(55)),
            ("/v1/deploy_templates/x/y", Some(55)),
            ("/v1/nodes/a/history", Some(78)),
            ("/v1/nodes/a/history/b", Some(78)),
            ("/v1/nodes/history", None),
            ("/v1/nodes/a", None),
            ("/v1/nowhere", None),
            ("/deploy_templates", None),
        ] {
            assert_eq!(first_version(path), since.map(Microversion), "{path}");
        }
    }
}
