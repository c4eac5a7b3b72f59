//! A Gentoo system in a directory: stock Portage, with a profile and a repository of its own.
//!
//! Portage comes from the Python package index, as `scripts/need-portage` installs it, and is told that everything that
//! it knows of a system lies below one directory. Packages are built from ebuilds of a few lines.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment::TestEnvironment;
use crate::program::{self, Finished};
use crate::skip::skipped;

/// The name that the only repository has, so that Portage looks for no other.
const REPOSITORY: &str = "gentoo";

/// A Gentoo system.
#[derive(Debug)]
pub struct Gentoo<'environment> {
    environment: &'environment TestEnvironment,
    prefix: PathBuf,
    portage: PathBuf,
}

impl<'environment> Gentoo<'environment> {
    /// A system of this name with nothing installed; none where there is no Portage, which is said.
    pub fn new(environment: &'environment TestEnvironment, name: &str) -> Option<Self> {
        let target = program::target_directory();
        let portage = target.parent().unwrap_or(&target).join("portage");
        if !portage.join("version").exists() {
            skipped("there is no Portage; `scripts/need-portage target/portage` installs it");
            return None;
        }
        let system = Self { environment, prefix: environment.path(name), portage };
        system.write_configuration();
        Some(system)
    }

    fn write_configuration(&self) {
        let prefix = self.prefix.display();
        self.write("repository/metadata/layout.conf", "masters =\nthin-manifests = true\n");
        self.write("repository/profiles/repo_name", REPOSITORY);
        self.write("repository/profiles/arch.list", "amd64\n");
        self.write("repository/profiles/categories", "app-test\n");
        self.write("repository/profiles/default/eapi", "8\n");
        self.write(
            "repository/profiles/default/make.defaults",
            "ARCH=\"amd64\"\nACCEPT_KEYWORDS=\"amd64\"\nCHOST=\"x86_64-pc-linux-gnu\"\nKERNEL=\"linux\"\nELIBC=\"glibc\"\n",
        );
        self.write(
            "etc/portage/make.conf",
            &format!(
                "DISTDIR={prefix}/distfiles\nPKGDIR={prefix}/packages\nPORTAGE_TMPDIR={prefix}/tmp\nBINPKG_FORMAT=gpkg\n\
                 FEATURES=\"-ipc-sandbox -network-sandbox -pid-sandbox -mount-sandbox -sandbox -usersandbox -userpriv \
                 -userfetch -usersync -news binpkg-multi-instance\"\n"
            ),
        );
        self.write(
            "etc/portage/repos.conf",
            &format!("[DEFAULT]\nmain-repo = {REPOSITORY}\n[{REPOSITORY}]\nlocation = {prefix}/repository\n"),
        );
        for directory in ["tmp", "distfiles", "packages", "share"] {
            fs::create_dir_all(self.path(directory)).expect("a directory can be made");
        }
        symlink("../../repository/profiles/default", self.path("etc/portage/make.profile"))
            .expect("a link can be made");
        symlink(self.portage.join("share/portage"), self.path("share/portage")).expect("a link can be made");
    }

    /// A path of this system.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.prefix.join(relative)
    }

    /// Writes a file of this system.
    pub fn write(&self, relative: &str, content: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("it lies in a directory")).expect("a directory can be made");
        fs::write(&path, content).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
    }

    /// Where it puts packages that it builds.
    pub fn packages(&self) -> PathBuf {
        self.path("packages")
    }

    /// Adds an ebuild `app-test/NAME-VERSION` that installs `/usr/share/NAME/text` with this text in it.
    pub fn ebuild(&self, name: &str, version: &str, needs: &str, text: &str) {
        let ebuild = format!(
            "EAPI=8\nDESCRIPTION=\"The package {name}\"\nHOMEPAGE=\"https://example.org/\"\nLICENSE=\"GPL-2\"\nSLOT=\"0\"\n\
             KEYWORDS=\"amd64\"\nIUSE=\"loud\"\nRDEPEND=\"{needs}\"\nS=\"${{WORKDIR}}\"\n\nsrc_install() {{\n\
             \tinsinto /usr/share/{name}\n\techo \"{text}\" > text || die\n\tdoins text\n}}\n"
        );
        self.write(&format!("repository/app-test/{name}/{name}-{version}.ebuild"), &ebuild);
    }

    /// Adds an ebuild that needs a distfile `NAME-VERSION.bin` with these bytes, and a Manifest that says what it is.
    #[track_caller]
    pub fn ebuild_of_distfile(&self, name: &str, version: &str, distfile: &[u8]) {
        let text = format!(
            "EAPI=8\nDESCRIPTION=\"The package {name}\"\nHOMEPAGE=\"https://example.org/\"\n\
             SRC_URI=\"https://upstream.invalid/${{P}}.bin\"\nLICENSE=\"GPL-2\"\nSLOT=\"0\"\nKEYWORDS=\"amd64\"\nS=\"${{WORKDIR}}\"\n"
        );
        let ebuild = format!("repository/app-test/{name}/{name}-{version}.ebuild");
        self.write(&ebuild, &text);
        let at_hand = self.path("distfiles").join(format!("{name}-{version}.bin"));
        fs::write(&at_hand, distfile).expect("a file can be written");
        program::run(self.command("ebuild").arg(self.path(&ebuild)).arg("manifest")).success();
        fs::remove_file(&at_hand).expect("it is there");
    }

    /// Fetches the distfile of such an ebuild from a mirror.
    pub fn fetch(&self, name: &str, version: &str, mirror: &str) -> Finished {
        let ebuild = self.path(&format!("repository/app-test/{name}/{name}-{version}.ebuild"));
        program::run(self.command("ebuild").arg(ebuild).arg("fetch").env("GENTOO_MIRRORS", mirror))
    }

    /// A distfile that was fetched.
    pub fn distfile(&self, name: &str) -> PathBuf {
        self.path("distfiles").join(name)
    }

    /// A program of Portage.
    pub fn command(&self, name: &str) -> Command {
        let mut command = self.environment.command(self.portage.join("bin").join(name));
        let usual = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{usual}", self.portage.join("bin").display()))
            .env("PORTAGE_OVERRIDE_EPREFIX", &self.prefix)
            .env("PORTAGE_USERNAME", name_of_this("-un"))
            .env("PORTAGE_GRPNAME", name_of_this("-gn"))
            .env("NOCOLOR", "true");
        command
    }

    /// Runs `emerge`.
    pub fn emerge(&self, arguments: &[&str]) -> Finished {
        program::run(self.command("emerge").args(arguments))
    }

    /// Builds packages of these names.
    #[track_caller]
    pub fn build(&self, names: &[&str]) {
        let mut arguments = vec!["--quiet", "--buildpkgonly", "--nodeps"];
        arguments.extend(names);
        self.emerge(&arguments).success();
    }

    /// Fetches packages from this URL from now on, and builds none.
    pub fn follow(&self, url: &str) {
        let location = self.path("binhost");
        self.write(
            "etc/portage/binrepos.conf",
            &format!(
                "[server]\nsync-uri = {url}\nlocation = {}\nverify-signature = false\n",
                location.display()
            ),
        );
    }

    /// Fetches packages from this URL from now on, and takes only such as a key is trusted for in this home of GnuPG.
    pub fn follow_signed(&self, url: &str, home: &Path) {
        self.follow(url);
        let settings = self.path("etc/portage/binrepos.conf");
        let text = fs::read_to_string(&settings).expect("it was written");
        let text = text.replace("verify-signature = false", "verify-signature = true");
        fs::write(&settings, text).expect("a file can be written");
        let settings = self.path("etc/portage/make.conf");
        let text = fs::read_to_string(&settings).expect("it was written");
        // Nobody else may read the home, and there is no program that fills it with keys of Gentoo.
        let own = format!(
            "BINPKG_GPG_VERIFY_GPG_HOME={}\nGPG_VERIFY_USER_DROP=\"\"\nGPG_VERIFY_GROUP_DROP=\"\"\n\
             PORTAGE_TRUST_HELPER=true\n",
            home.display()
        );
        fs::write(&settings, text + &own).expect("a file can be written");
    }

    /// What a package has installed.
    pub fn installed(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(&format!("usr/share/{name}/text"))).ok()
    }
}

/// The name of the user, or of the group, that runs this.
fn name_of_this(which: &str) -> String {
    program::run(Command::new("id").arg(which)).success().stdout.trim_end().to_owned()
}
