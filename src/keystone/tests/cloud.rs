//! Tests of cloud resolution: precedence of the sources, and the key names in error messages.

use std::fs;
use std::path::Path;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::super::{Cloud, Credentials, Environment, IdOrName, Interface, Interfaces, Qualified};
use crate::config::{Config, Diagnostic};

/// Creates a directory with these files.
pub(super) fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("creates a directory");
    for (name, text) in files {
        fs::write(directory.path().join(name), text).expect("writes");
    }
    directory
}

pub(super) fn environment(directory: &Path, variables: &[(&str, &str)]) -> Environment {
    Environment {
        variables: variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        directories: vec![directory.join("not there"), directory.to_owned()],
        home: Some(directory.to_owned()),
    }
}

fn resolve(config: &str, environment: &Environment) -> Result<Option<Cloud>, Vec<Diagnostic>> {
    let config = Config::parse(&format!("[cinder]\n{config}")).expect("parses");
    Cloud::resolve_blocking(&config.cinder.cloud, environment)
}

pub(super) fn cloud(config: &str, environment: &Environment) -> Cloud {
    resolve(config, environment).expect("is valid").expect("is configured")
}

pub(super) fn errors(config: &str, environment: &Environment) -> Vec<String> {
    resolve(config, environment).expect_err("is invalid").iter().map(ToString::to_string).collect()
}

pub(super) fn empty() -> Environment {
    Environment::default()
}

pub(super) fn qualified_name(name: &str, domain: &str) -> Qualified {
    Qualified { identity: IdOrName::Name(name.into()), domain: IdOrName::Name(domain.into()) }
}

/// The password credentials, with the password exposed.
pub(super) fn password(cloud: &Cloud) -> (&str, &Qualified, &str, &Qualified) {
    let Credentials::Password { auth_url, user, password, project } = &cloud.credentials else {
        panic!("other credentials: {cloud:?}")
    };
    (auth_url, user, password.expose_secret(), project)
}

pub(super) const CLOUDS: &str = r#"
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
fn named_cloud_is_read_with_profile_and_secrets() {
    let directory = directory(&[
        ("clouds.yaml", CLOUDS),
        (
            "clouds-public.yaml",
            "public-clouds: {vendor: {auth: {auth_url: 'https://id.example.org/v2.0'}, region_name: zero}}",
        ),
        ("secure.yaml", "clouds: {site: {auth: {password: 'pass:word'}}}"),
    ]);
    let here = environment(directory.path(), &[("OS_USERNAME", "ann"), ("OS_AUTH_URL", "http://x")]);
    let site = cloud("cloud = \"site\"", &here);
    assert_eq!(
        password(&site),
        (
            "https://id.example.org/v3",
            &qualified_name("bootapp", "Users"),
            "pass:word",
            &qualified_name("boot", "Projects")
        )
    );
    assert_eq!(site.region.as_deref(), Some("one"));
    assert_eq!(site.interfaces, Interface::Internal.into());
    assert_eq!(site.endpoint_override.as_deref(), Some("http://192.0.2.3:8776/v3"));
    // Keys in [cinder] override clouds.yaml.
    let site = cloud("cloud = \"site\"\nregion_name = \"two\"\ninterface = \"public\"", &here);
    assert_eq!((site.region.as_deref(), site.interfaces), (Some("two"), Interfaces::default()));
    // Digits are read as text, and OS_CLOUD names a cloud.
    let credential = cloud("", &environment(directory.path(), &[("OS_CLOUD", "credential")]));
    let Credentials::ApplicationCredential { auth_url, credential, secret } = credential.credentials else {
        panic!("other credentials")
    };
    assert_eq!(auth_url, "http://192.0.2.2:5000/v3");
    assert_eq!(credential, (IdOrName::Id("40e2".into()), None));
    assert_eq!(secret.expose_secret(), "0123456");
    let alone = cloud("cloud = \"alone\"", &here);
    let Credentials::None { user, project } = &alone.credentials else { panic!("other credentials") };
    assert_eq!((user.as_str(), project.as_str()), ("volboot", "0123-abc"));
}

#[test]
fn os_client_config_file_takes_precedence() {
    let directory = directory(&[("clouds.yaml", CLOUDS), ("mine.yaml", "clouds: {mine: {auth_type: none}}")]);
    let mine = directory.path().join("mine.yaml");
    let here = environment(directory.path(), &[("OS_CLIENT_CONFIG_FILE", mine.to_str().expect("text"))]);
    let cloud = cloud("cloud = \"mine\"\nendpoint_override = \"http://192.0.2.3:8776/v3\"", &here);
    assert!(matches!(cloud.credentials, Credentials::None { .. }));
}

#[test]
fn configuration_overrides_environment_except_for_missing_secrets() {
    let variables = [
        ("OS_AUTH_URL", "http://192.0.2.2/identity"),
        ("OS_USERNAME", "ann"),
        ("OS_PASSWORD", "secret"),
        ("OS_PROJECT_ID", "4711"),
        ("OS_ENDPOINT_TYPE", "adminURL"),
        ("OS_REGION_NAME", ""),
    ];
    let here = environment(Path::new("/nowhere"), &variables);
    let from_variables = cloud("", &here);
    let default = IdOrName::Id("default".into());
    let ann = Qualified { identity: IdOrName::Name("ann".into()), domain: default.clone() };
    let project = Qualified { identity: IdOrName::Id("4711".into()), domain: default.clone() };
    assert_eq!(password(&from_variables), ("http://192.0.2.2/identity/v3", &ann, "secret", &project));
    assert_eq!(from_variables.interfaces, Interface::Admin.into());
    assert_eq!(from_variables.region, None);
    let own =
        cloud("auth_url = \"http://192.0.2.9:5000/\"\nusername = \"bob\"\nproject_name = \"boot\"", &here);
    let bob = Qualified { identity: IdOrName::Name("bob".into()), domain: default.clone() };
    let boot = Qualified { identity: IdOrName::Name("boot".into()), domain: default };
    assert_eq!(password(&own), ("http://192.0.2.9:5000/v3", &bob, "secret", &boot));
    assert_eq!(own.interfaces, Interfaces::default());
}

#[test]
fn secret_is_read_from_its_file() {
    let directory = directory(&[("secret", "from a file\n")]);
    let file = directory.path().join("secret");
    let settings = format!(
        "auth_url = \"http://192.0.2.2\"\nusername = \"bob\"\nproject_name = \"boot\"\npassword_file = {:?}",
        file.display().to_string()
    );
    assert_eq!(password(&cloud(&settings, &empty())).2, "from a file");
    let application = format!(
        "auth_url = \"http://192.0.2.2\"\napplication_credential_name = \"x\"\nuser_id = \"7\"\n\
         application_credential_secret_file = {:?}",
        file.display().to_string()
    );
    let credentials = cloud(&application, &empty()).credentials;
    let Credentials::ApplicationCredential { credential: (name, user), secret, .. } = credentials else {
        panic!("other credentials")
    };
    assert_eq!(name, IdOrName::Name("x".into()));
    assert_eq!(user.expect("a user").identity, IdOrName::Id("7".into()));
    assert_eq!(secret.expose_secret(), "from a file");
    assert_eq!(
        errors(&format!("{settings}\npassword = \"x\""), &empty()),
        ["cinder.password_file: conflicts with password; set only one of them"]
    );
}

#[test]
fn empty_configuration_has_no_cloud() {
    for config in ["", "resolutions = 8", "verify = false"] {
        assert!(resolve(config, &empty()).expect("is valid").is_none(), "{config}");
    }
}

#[test]
fn errors_name_the_key_of_their_source() {
    assert_eq!(
        errors("region_name = \"one\"", &empty()),
        [
            "cinder.auth_url: is required but not set",
            "cinder.username: is required but not set",
            "cinder.password: is required but not set",
            "cinder.project_name: is required but not set",
        ]
    );
    assert_eq!(
        errors(
            "auth_url = \"ftp://192.0.2.2\"\nusername = \"bob\"\nproject_id = \"1\"\npassword_file = \"/not/there\"\n\
             interface = \"inner\"\ncacert = \"/dev/null\"\nendpoint_override = \"192.0.2.3\"",
            &empty()
        ),
        [
            "cinder.auth_url: expected a URL such as https://192.0.2.2:5000/v3",
            "cinder.password_file: cannot read /not/there: No such file or directory (os error 2)",
            "cinder.endpoint_override: expected a URL such as https://192.0.2.2:5000/v3",
            "cinder.interface: \"inner\" is not \"public\", \"internal\" or \"admin\"",
            "cinder.cacert: cannot use /dev/null: the file holds no certificate",
        ]
    );
    assert_eq!(
        errors("auth_type = \"kerberos\"", &empty()),
        [
            "cinder.auth_type: \"kerberos\" is not \"password\", \"v3applicationcredential\" or \"none\" (or an alias of \
             these)"
        ]
    );
    assert_eq!(
        errors("auth_type = \"noauth\"", &empty()),
        ["cinder.endpoint_override: is required: without Keystone there is no service catalogue"]
    );
    assert_eq!(
        errors("auth_type = \"v3applicationcredential\"\nauth_url = \"http://192.0.2.2\"", &empty()),
        [
            "cinder.application_credential_secret: is required but not set",
            "cinder.application_credential_id: is required but not set",
        ]
    );
    let here = environment(Path::new("/nowhere"), &[("OS_AUTH_URL", "192.0.2.2"), ("OS_USERNAME", "ann")]);
    assert_eq!(
        errors("", &here),
        [
            "OS_AUTH_URL: expected a URL such as https://192.0.2.2:5000/v3",
            "OS_PASSWORD: is required but not set",
            "OS_PROJECT_NAME: is required but not set",
        ]
    );
}
