//! Which cloud is meant, by what was said where; and what is wrong with it, under the name its author knows.

use std::fs;
use std::path::Path;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::super::{Cloud, Credentials, Identity, Interface, Qualified, Surroundings};
use crate::config::{Config, Fault};

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        fs::write(directory.path().join(name), text).expect("is written");
    }
    directory
}

fn surroundings(directory: &Path, variables: &[(&str, &str)]) -> Surroundings {
    Surroundings {
        variables: variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        directories: vec![directory.join("not there"), directory.to_owned()],
        home: Some(directory.to_owned()),
    }
}

fn resolve(config: &str, surroundings: &Surroundings) -> Result<Option<Cloud>, Vec<Fault>> {
    let config = Config::parse(&format!("[cinder]\n{config}")).expect("is read");
    Cloud::resolve(&config.cinder.cloud, surroundings)
}

fn cloud(config: &str, surroundings: &Surroundings) -> Cloud {
    resolve(config, surroundings).expect("makes sense").expect("is there")
}

fn faults(config: &str, surroundings: &Surroundings) -> Vec<String> {
    resolve(config, surroundings).expect_err("a fault").iter().map(ToString::to_string).collect()
}

fn nowhere() -> Surroundings {
    Surroundings::default()
}

fn named(name: &str, domain: &str) -> Qualified {
    Qualified { identity: Identity::Name(name.into()), domain: Identity::Name(domain.into()) }
}

/// The password's credentials, the password among them in the clear.
fn password(cloud: &Cloud) -> (&str, &Qualified, &str, &Qualified) {
    let Credentials::Password { auth_url, user, password, project } = &cloud.credentials else {
        panic!("another kind: {cloud:?}")
    };
    (auth_url, user, password.expose_secret(), project)
}

const CLOUDS: &str = r#"
clouds:
  site:
    profile: vendor
    region_name: one
    interface: internalURL
    verify: false
    volume_endpoint_override: http://192.0.2.3:8776/v3/
    auth:
      username: bootapp
      project_name: boot
      user_domain_name: Users
      project_domain_name: Projects
    networks: [{name: whatever, routes_externally: true}]
  credential:
    auth_type: v3applicationcredential
    auth:
      auth_url: http://192.0.2.2:5000
      application_credential_id: 40e2
      application_credential_secret: 0123456
  alone:
    auth_type: none
    auth: {endpoint: "http://192.0.2.3:8776/v3/0123-abc"}
"#;

#[test]
fn a_named_cloud_is_read_with_its_profile_and_its_secrets() {
    let directory = directory(&[
        ("clouds.yaml", CLOUDS),
        (
            "clouds-public.yaml",
            "public-clouds: {vendor: {auth: {auth_url: 'https://id.example.org/v2.0'}, region_name: zero}}",
        ),
        ("secure.yaml", "clouds: {site: {auth: {password: 'pass:word'}}}"),
    ]);
    let here = surroundings(directory.path(), &[("OS_USERNAME", "somebody"), ("OS_AUTH_URL", "http://x")]);
    let site = cloud("cloud = \"site\"", &here);
    assert_eq!(
        password(&site),
        ("https://id.example.org/v3", &named("bootapp", "Users"), "pass:word", &named("boot", "Projects"))
    );
    assert_eq!(site.region.as_deref(), Some("one"));
    assert_eq!(site.interface, Interface::Internal);
    assert_eq!(site.endpoint_override.as_deref(), Some("http://192.0.2.3:8776/v3"));
    // Our own keys win over it.
    let site = cloud("cloud = \"site\"\nregion_name = \"two\"\ninterface = \"public\"", &here);
    assert_eq!((site.region.as_deref(), site.interface), (Some("two"), Interface::Public));
    // Digits are a text like another, and a variable names a cloud as well.
    let credential = cloud("", &surroundings(directory.path(), &[("OS_CLOUD", "credential")]));
    let Credentials::ApplicationCredential { auth_url, credential, secret } = credential.credentials else {
        panic!("another kind")
    };
    assert_eq!(auth_url, "http://192.0.2.2:5000/v3");
    assert_eq!(credential, (Identity::Id("40e2".into()), None));
    assert_eq!(secret.expose_secret(), "0123456");
    let alone = cloud("cloud = \"alone\"", &here);
    let Credentials::None { user, project } = &alone.credentials else { panic!("another kind") };
    assert_eq!((user.as_str(), project.as_str()), ("volboot", "0123-abc"));
}

#[test]
fn a_file_that_a_variable_names_comes_first() {
    let directory = directory(&[("clouds.yaml", CLOUDS), ("mine.yaml", "clouds: {mine: {auth_type: none}}")]);
    let mine = directory.path().join("mine.yaml");
    let here = surroundings(directory.path(), &[("OS_CLIENT_CONFIG_FILE", mine.to_str().expect("text"))]);
    let found = cloud("cloud = \"mine\"\nendpoint_override = \"http://192.0.2.3:8776/v3\"", &here);
    assert!(matches!(found.credentials, Credentials::None { .. }));
}

#[test]
fn variables_say_it_all_and_our_own_keys_keep_them_out_save_for_secrets() {
    let variables = [
        ("OS_AUTH_URL", "http://192.0.2.2/identity"),
        ("OS_USERNAME", "ann"),
        ("OS_PASSWORD", "secret"),
        ("OS_PROJECT_ID", "4711"),
        ("OS_ENDPOINT_TYPE", "adminURL"),
        ("OS_REGION_NAME", ""),
    ];
    let here = surroundings(Path::new("/nowhere"), &variables);
    let by_variables = cloud("", &here);
    let default = Identity::Id("default".into());
    let ann = Qualified { identity: Identity::Name("ann".into()), domain: default.clone() };
    let project = Qualified { identity: Identity::Id("4711".into()), domain: default.clone() };
    assert_eq!(password(&by_variables), ("http://192.0.2.2/identity/v3", &ann, "secret", &project));
    assert_eq!((by_variables.interface, by_variables.region.as_deref()), (Interface::Admin, None));
    let own =
        cloud("auth_url = \"http://192.0.2.9:5000/\"\nusername = \"bob\"\nproject_name = \"boot\"", &here);
    let bob = Qualified { identity: Identity::Name("bob".into()), domain: default.clone() };
    let boot = Qualified { identity: Identity::Name("boot".into()), domain: default };
    assert_eq!(password(&own), ("http://192.0.2.9:5000/v3", &bob, "secret", &boot));
    assert_eq!(own.interface, Interface::Public);
}

#[test]
fn a_secret_is_read_from_its_file() {
    let directory = directory(&[("secret", "from a file\n")]);
    let file = directory.path().join("secret");
    let said = format!(
        "auth_url = \"http://192.0.2.2\"\nusername = \"bob\"\nproject_name = \"boot\"\npassword_file = {:?}",
        file.display().to_string()
    );
    assert_eq!(password(&cloud(&said, &nowhere())).2, "from a file");
    let application = format!(
        "auth_url = \"http://192.0.2.2\"\napplication_credential_name = \"x\"\nuser_id = \"7\"\n\
         application_credential_secret_file = {:?}",
        file.display().to_string()
    );
    let found = cloud(&application, &nowhere()).credentials;
    let Credentials::ApplicationCredential { credential: (name, user), secret, .. } = found else {
        panic!("another kind")
    };
    assert_eq!(name, Identity::Name("x".into()));
    assert_eq!(user.expect("a user").identity, Identity::Id("7".into()));
    assert_eq!(secret.expose_secret(), "from a file");
    assert_eq!(
        faults(&format!("{said}\npassword = \"x\""), &nowhere()),
        ["cinder.password_file: password is set as well"]
    );
}

#[test]
fn nothing_said_is_no_cloud() {
    for config in ["", "resolutions = 8", "verify = false"] {
        assert!(resolve(config, &nowhere()).expect("is no fault").is_none(), "{config}");
    }
}

#[test]
fn every_fault_is_told_under_the_name_its_author_knows() {
    assert_eq!(
        faults("region_name = \"one\"", &nowhere()),
        [
            "cinder.auth_url: is needed, and not said",
            "cinder.username: is needed, and not said",
            "cinder.password: is needed, and not said",
            "cinder.project_name: is needed, and not said",
        ]
    );
    assert_eq!(
        faults(
            "auth_url = \"ftp://192.0.2.2\"\nusername = \"bob\"\nproject_id = \"1\"\npassword_file = \"/not/there\"\n\
             interface = \"inner\"\ncacert = \"/dev/null\"\nendpoint_override = \"192.0.2.3\"",
            &nowhere()
        ),
        [
            "cinder.auth_url: expected a URL such as https://192.0.2.2:5000/v3",
            "cinder.password_file: cannot read /not/there: No such file or directory (os error 2)",
            "cinder.endpoint_override: expected a URL such as https://192.0.2.2:5000/v3",
            "cinder.interface: \"inner\" is not \"public\", \"internal\" or \"admin\"",
            "cinder.cacert: cannot use /dev/null: it holds no certificate",
        ]
    );
    assert_eq!(
        faults("auth_type = \"kerberos\"", &nowhere()),
        [
            "cinder.auth_type: \"kerberos\" is not \"password\", \"v3applicationcredential\" or \"none\" (or another \
             spelling of these)"
        ]
    );
    assert_eq!(
        faults("auth_type = \"noauth\"", &nowhere()),
        ["cinder.endpoint_override: is needed, since without Keystone there is no catalogue"]
    );
    assert_eq!(
        faults("auth_type = \"v3applicationcredential\"\nauth_url = \"http://192.0.2.2\"", &nowhere()),
        [
            "cinder.application_credential_secret: is needed, and not said",
            "cinder.application_credential_id: is needed, and not said",
        ]
    );
    let here = surroundings(Path::new("/nowhere"), &[("OS_AUTH_URL", "192.0.2.2"), ("OS_USERNAME", "ann")]);
    assert_eq!(
        faults("", &here),
        [
            "OS_AUTH_URL: expected a URL such as https://192.0.2.2:5000/v3",
            "OS_PASSWORD: is needed, and not said",
            "OS_PROJECT_NAME: is needed, and not said",
        ]
    );
}

#[test]
fn faults_of_files_name_the_file_and_repeat_nothing_of_it() {
    let directory = directory(&[("clouds.yaml", CLOUDS)]);
    let here = surroundings(directory.path(), &[]);
    let path = directory.path().join("clouds.yaml").display().to_string();
    let of = |config: &str| faults(config, &here).join("\n").replace(&path, "FILE");
    assert_eq!(
        of("cloud = \"sight\""),
        "FILE: there is no cloud \"sight\", but \"alone\", \"credential\", \"site\""
    );
    assert_eq!(of("cloud = \"site\""), "FILE: no clouds-public.yaml has the profile \"vendor\"");
    let told = faults("cloud = \"x\"", &nowhere()).join("\n");
    assert_eq!(told, "cinder.cloud: there is no clouds.yaml that could tell of cloud \"x\": not in ");
    for broken in ["clouds: {x: {auth: {password: secret", "clouds: {x: {auth: [secret]}}", "secret"] {
        fs::write(directory.path().join("clouds.yaml"), broken).expect("is written");
        let told = of("cloud = \"x\"");
        assert!(told.starts_with("FILE: is no clouds.yaml: see line 1"), "{told}");
        assert!(!told.contains("secret"), "{told}");
    }
    fs::write(directory.path().join("clouds.yaml"), "clouds: {x: {auth: {username: a}}}")
        .expect("is written");
    assert_eq!(
        of("cloud = \"x\""),
        "FILE: clouds.x.auth.auth_url: is needed, and not said\n\
         FILE: clouds.x.auth.password: is needed, and not said\n\
         FILE: clouds.x.auth.project_name: is needed, and not said"
    );
}
