//! Tests of clouds.yaml. The expected values are those of openstacksdk 4.22 for the same file, except where noted.

use std::fs;

use super::super::{Cloud, Interface, Interfaces};
use super::cloud::{CLOUDS, cloud, directory, empty, environment, errors, password, qualified_name};

/// A file with a cloud `site`, and with entries of other clouds that no reader of `site` needs.
fn with_odd_neighbours(entry: &str) -> String {
    format!(
        "clouds:\n  site: {entry}\n  empty:\n  text: hello\n  list: [1, 2]\n  odd:\n    interface: [internal, public]\n    \
         region_name: [a, b]\n    regions: [a, {{name: b, values: {{verify: [1]}}}}]\n    auth_methods: [v3password]\n    \
         auth: [x]\n    verify: maybe\n    profile: {{}}\n    cacert: [x]\n  twice: {{a: 1}}\n  twice: {{a: 2}}\n  \
         7: {{auth: {{password: 1}}}}\nclient: {{force_ipv4: true}}\n"
    )
}

const AUTH: &str = "auth_url: 'http://192.0.2.2', username: ann, password: x, project_name: boot";

/// The cloud `site` of a file with this entry.
fn site(entry: &str, config: &str) -> Cloud {
    let directory = directory(&[("clouds.yaml", &with_odd_neighbours(entry))]);
    cloud(&format!("cloud = \"site\"\n{config}"), &environment(directory.path(), &[]))
}

/// The errors of a file whose cloud `site` has this entry.
fn site_errors(entry: &str, config: &str) -> String {
    let directory = directory(&[("clouds.yaml", &with_odd_neighbours(entry))]);
    let path = directory.path().join("clouds.yaml").display().to_string();
    let errors = errors(&format!("cloud = \"site\"\n{config}"), &environment(directory.path(), &[]));
    errors.join("\n").replace(&path, "FILE")
}

#[test]
fn only_the_named_cloud_is_interpreted() {
    let site = site(&format!("{{auth: {{{AUTH}}}}}"), "");
    assert_eq!(password(&site).0, "http://192.0.2.2/v3");
    let message = site_errors("{interface: {a: b}}", "");
    assert_eq!(message, "FILE: clouds.site.interface: expected text, not a mapping");
    // An empty entry sets nothing.
    let message = site_errors("", "");
    assert!(message.starts_with("FILE: clouds.site.auth.auth_url: is required but not set\n"), "{message}");
}

#[test]
fn interfaces_are_a_list_in_order_of_preference() {
    let interfaces = |entry: &str| site(&format!("{{{entry}, auth: {{{AUTH}}}}}"), "").interfaces;
    assert_eq!(
        interfaces("interface: [internal, public]"),
        "internal,public".parse::<Interfaces>().expect("is valid")
    );
    assert_eq!(interfaces("interface: [adminURL]"), Interface::Admin.into());
    assert_eq!(interfaces("endpoint_type: internalURL"), Interface::Internal.into());
    assert_eq!(interfaces("interface: public, volumev3_interface: admin"), Interface::Admin.into());
    assert_eq!(interfaces("block_storage_endpoint_type: internal"), Interface::Internal.into());
    assert_eq!(
        site_errors(&format!("{{interface: [public, inner], auth: {{{AUTH}}}}}"), ""),
        "FILE: clouds.site.interface: \"inner\" is not \"public\", \"internal\" or \"admin\""
    );
}

#[test]
fn a_region_is_selected_with_its_values() {
    let auth =
        "auth: {auth_url: 'http://192.0.2.2/{region_name}', username: ann, password: x, project_name: boot}";
    let regions = "regions: [one, {name: two, values: {interface: admin, auth: {auth_url: 'http://two.example'}}}, {name: 3}]";
    for (entry, config, region, url, interface) in [
        ("region_name: [one, two]", "", "one", "http://192.0.2.2/one/v3", Interface::Public),
        (
            "region_name: [one, two]",
            "region_name = \"two\"",
            "two",
            "http://192.0.2.2/two/v3",
            Interface::Public,
        ),
        ("region_name: 'one,two'", "", "one", "http://192.0.2.2/one/v3", Interface::Public),
        ("region_name: one, volume_region_name: z", "", "z", "http://192.0.2.2/z/v3", Interface::Public),
        (regions, "", "one", "http://192.0.2.2/one/v3", Interface::Public),
        (regions, "region_name = \"two\"", "two", "http://two.example/v3", Interface::Admin),
        (regions, "region_name = \"3\"", "3", "http://192.0.2.2/3/v3", Interface::Public),
        // openstacksdk rejects another region than the only one; volboot's configuration overrides it.
        ("region_name: one", "region_name = \"two\"", "two", "http://192.0.2.2/one/v3", Interface::Public),
    ] {
        let cloud = site(&format!("{{{entry}, {auth}}}"), config);
        assert_eq!(cloud.region.as_deref(), Some(region), "{entry} {config}");
        assert_eq!((password(&cloud).0, &cloud.interfaces), (url, &interface.into()), "{entry} {config}");
    }
    assert_eq!(
        site_errors(&format!("{{{regions}, {auth}}}"), "region_name = \"four\""),
        "cinder.region_name: \"four\" is not a region of the cloud; its regions are one, two, 3"
    );
}

#[test]
fn regions_of_a_profile_count_if_the_entry_names_none() {
    let public = "public-clouds: {vendor: {regions: [p, q], interface: internal, auth: {auth_url: 'http://192.0.2.9'}}}";
    let auth = "auth: {username: ann, password: x, project_name: boot}";
    for (entry, region) in
        [("profile: vendor", "p"), ("cloud: vendor", "p"), ("profile: vendor, region_name: own", "own")]
    {
        let clouds = format!("clouds: {{site: {{{entry}, {auth}}}}}");
        let directory = directory(&[("clouds.yaml", &clouds), ("clouds-public.yaml", public)]);
        let site = cloud("cloud = \"site\"", &environment(directory.path(), &[]));
        assert_eq!(site.region.as_deref(), Some(region), "{entry}");
        assert_eq!(
            (password(&site).0, &site.interfaces),
            ("http://192.0.2.9/v3", &Interface::Internal.into())
        );
    }
}

#[test]
fn spellings_of_openstacksdk_are_read() {
    for entry in [
        "auth: {auth_url: 'http://192.0.2.2', username: ann, password: x, project_name: new, tenant_name: boot, domain_name: Users}",
        "auth: {auth-url: 'http://192.0.2.2', user-name: ann, password: x, tenant-name: new, domain-name: Users}",
        "auth_url: 'http://192.0.2.2', username: ann, password: x, project-name: new, domain_name: Users",
        "auth_url: 'http://192.0.2.9', username: bob, project_name: new, domain_name: Users, \
         auth: {auth_url: 'http://192.0.2.2', username: ann, password: x, project_name: old}",
        "auth_plugin: v3password, auth: {auth_url: 'http://192.0.2.2', username: ann, password: x, tenant_name: new, \
         user_domain_name: Users, project_domain_name: Users, project_id: }",
    ] {
        let site = site(&format!("{{{entry}}}"), "");
        let (ann, new) = (qualified_name("ann", "Users"), qualified_name("new", "Users"));
        assert_eq!(password(&site), ("http://192.0.2.2/v3", &ann, "x", &new), "{entry}");
    }
    let endpoint = |entry: &str| {
        site(&format!("{{{entry}, auth: {{{AUTH}, endpoint: 'http://e'}}}}"), "").endpoint_override
    };
    for prefix in ["block_storage", "block-storage", "volumev3", "volume", "block_store"] {
        let url = endpoint(&format!("{prefix}_endpoint_override: 'http://192.0.2.3:8776/v3'"));
        assert_eq!(url.as_deref(), Some("http://192.0.2.3:8776/v3"), "{prefix}");
    }
    assert_eq!(endpoint("volume_api_version: 3"), None, "auth.endpoint belongs to auth_type none");
    let alone = site("{auth_type: None, auth: {endpoint: 'http://192.0.2.3:8776/v3/abc'}}", "");
    assert_eq!(alone.endpoint_override.as_deref(), Some("http://192.0.2.3:8776/v3/abc"));
}

#[test]
fn verification_is_read_as_by_requests() {
    // A certificate file that cannot be read shows that its path was taken.
    let error = |entry: &str| site_errors(&format!("{{{entry}, auth: {{{AUTH}}}}}"), "");
    let missing = "cannot use /not/there.pem: No such file or directory (os error 2)";
    assert_eq!(error("verify: /not/there.pem"), format!("FILE: clouds.site.verify: {missing}"));
    assert_eq!(error("cacert: /not/there.pem, verify: /x"), format!("FILE: clouds.site.cacert: {missing}"));
    for text in ["maybe", "1", "/a.pem"] {
        let expected = "FILE: clouds.site.insecure: expected true or false";
        assert_eq!(error(&format!("insecure: {text}")), expected, "{text}");
    }
    let verify = |entry: &str| {
        let directory = directory(&[("clouds.yaml", &with_odd_neighbours(&format!("{{{entry}}}")))]);
        let source = super::super::clouds_yaml::read("site", None, &environment(directory.path(), &[]));
        source.unwrap_or_else(|error| panic!("{error}")).get("verify").map(str::to_owned)
    };
    for (entry, expected) in [
        ("verify: false", Some("false")),
        ("verify: No", Some("false")),
        ("verify: true", Some("true")),
        ("verify: true, insecure: True", Some("false")),
        ("insecure: 'true'", Some("false")),
        ("insecure: yes", Some("false")),
        ("insecure: On", Some("false")),
        ("insecure: false", None),
        ("insecure: No", None),
        ("verify: false, insecure: off", Some("false")),
        ("auth_type: password", None),
    ] {
        assert_eq!(verify(entry).as_deref(), expected, "{entry}");
    }
}

#[test]
fn unsupported_settings_are_reported() {
    let with = |setting: &str| site_errors(&format!("{{{setting}, auth: {{{AUTH}}}}}"), "");
    assert_eq!(
        with("cert: /etc/me.pem, key: /etc/me.key"),
        "FILE: clouds.site.cert: client certificates are not supported: remove it, or describe the cloud in [cinder] \
         without clouds.yaml\n\
         FILE: clouds.site.key: client certificates are not supported: remove it, or describe the cloud in [cinder] without \
         clouds.yaml"
    );
    assert!(
        with("proxies: {https: 'http://user:secret@p'}")
            .starts_with("FILE: clouds.site.proxies: proxies are not")
    );
    site(&format!("{{cert: null, key: '', auth: {{{AUTH}}}}}"), "");
}

#[test]
fn system_scope_is_named_as_the_cause() {
    let auth = "auth_url: 'http://192.0.2.2', username: ann, password: x, system_scope: all";
    let expected = "is not supported, because volumes belong to a project: remove it and set project_name, or set \
                    cinder.project_name";
    assert_eq!(
        site_errors(&format!("{{auth: {{{auth}}}}}"), ""),
        format!("FILE: clouds.site.auth.system_scope: {expected}")
    );
    let site =
        site(&format!("{{auth: {{{auth}}}}}"), "project_name = \"boot\"\nproject_domain_name = \"Users\"");
    assert_eq!(password(&site).3, &qualified_name("boot", "Users"));
    let variables = [
        ("OS_AUTH_URL", "http://192.0.2.2"),
        ("OS_USERNAME", "ann"),
        ("OS_PASSWORD", "x"),
        ("OS_SYSTEM_SCOPE", "all"),
    ];
    let here = environment(std::path::Path::new("/nowhere"), &variables);
    assert_eq!(errors("", &here), [format!("OS_SYSTEM_SCOPE: {expected}")]);
}

#[test]
fn errors_name_the_file_and_the_spelling_of_the_setting() {
    let directory = directory(&[
        (
            "clouds.yaml",
            "clouds: {site: {profile: v, volume_endpoint_override: x, auth: {username: a, tenant_name: b}}}",
        ),
        ("secure.yaml", "clouds: {site: {auth: {password: [1]}}}"),
        ("clouds-public.yaml", "public-clouds: {v: {auth: {auth-url: y}}}"),
    ]);
    let here = environment(directory.path(), &[]);
    let errors_here =
        || errors("cloud = \"site\"", &here).join("\n").replace(&directory.path().display().to_string(), "");
    assert_eq!(errors_here(), "/secure.yaml: clouds.site.auth.password: expected text, not a list");
    fs::write(directory.path().join("secure.yaml"), "clouds: {site: {auth: {password: 1}}}").expect("writes");
    let expected = "expected a URL such as https://192.0.2.2:5000/v3";
    assert_eq!(
        errors_here(),
        format!(
            "/clouds-public.yaml: public-clouds.v.auth.auth-url: {expected}\n\
             /clouds.yaml: clouds.site.volume_endpoint_override: {expected}"
        )
    );
}

#[test]
fn errors_of_files_name_the_file_and_quote_no_content() {
    let directory = directory(&[("clouds.yaml", CLOUDS)]);
    let here = environment(directory.path(), &[]);
    let path = directory.path().join("clouds.yaml").display().to_string();
    let errors_of = |config: &str| errors(config, &here).join("\n").replace(&path, "FILE");
    assert_eq!(
        errors_of("cloud = \"sight\""),
        "FILE: has no cloud \"sight\"; its clouds are \"alone\", \"credential\", \"site\""
    );
    assert_eq!(
        errors_of("cloud = \"site\""),
        "FILE: cannot find profile \"vendor\" in a clouds-public.yaml. volboot has none of openstacksdk's profiles: write \
         the profile's settings, such as auth_url, into the entry instead"
    );
    let message = errors("cloud = \"x\"", &empty()).join("\n");
    assert_eq!(message, "cinder.cloud: cannot find a clouds.yaml for cloud \"x\"; searched in ");
    let entry_of = |entry: &str| format!("clouds: {{x: {entry}}}");
    for (broken, expected) in [
        ("clouds: {x: {auth: {password: secret".into(), ""),
        ("secret".into(), "FILE: is not a valid clouds.yaml: expected a mapping, not text"),
        ("clouds: [secret]".into(), "FILE: clouds: expected a mapping of clouds, not a list"),
        (entry_of("secret"), "FILE: clouds.x: expected a mapping, not text"),
        (entry_of("{auth: [secret]}"), "FILE: clouds.x.auth: expected a mapping, not a list"),
        (entry_of("{auth: {password: [secret]}}"), "FILE: clouds.x.auth.password: expected text, not a list"),
        (entry_of("{auth-plugin: {secret: 1}}"), "FILE: clouds.x.auth-plugin: expected text, not a mapping"),
        (entry_of("{interface: [[secret]]}"), "FILE: clouds.x.interface: expected text or a list of texts"),
        (entry_of("{region_name: {secret: 1}}"), "FILE: clouds.x.region_name: expected text, not a mapping"),
        (entry_of("{regions: secret}"), "FILE: clouds.x.regions: expected a list, not text"),
        (entry_of("{regions: [{values: {secret: 1}}]}"), "FILE: clouds.x.regions: a region has no name"),
    ] {
        fs::write(directory.path().join("clouds.yaml"), &broken).expect("writes");
        let message = errors_of("cloud = \"x\"");
        if expected.is_empty() {
            assert!(message.starts_with("FILE: is not a valid clouds.yaml: line 1, column"), "{message}");
        } else {
            assert_eq!(message, expected, "{broken}");
        }
        assert!(!message.contains("secret"), "{message}");
    }
    fs::write(directory.path().join("clouds.yaml"), "clouds: {x: {auth: {username: a}}}").expect("writes");
    assert_eq!(
        errors_of("cloud = \"x\""),
        "FILE: clouds.x.auth.auth_url: is required but not set\n\
         FILE: clouds.x.auth.password: is required but not set\n\
         FILE: clouds.x.auth.project_name: is required but not set"
    );
}
