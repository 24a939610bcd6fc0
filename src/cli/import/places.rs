//! Where other programs keep their servers: on Linux, on macOS, in a folder. Whether a file is
//! there is seen when it is read.

use std::path::{Path, PathBuf};

use crate::base::ordered;
use crate::cli::args::Client;

/// A file that may be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub path: PathBuf,
    /// The folder that its servers belong to, if they are not for everywhere.
    pub folder: Option<PathBuf>,
}

/// What paths start from.
pub struct Around {
    pub home: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME`, or `~/.config`.
    pub config: Option<PathBuf>,
    pub here: PathBuf,
}

/// Of the whole user, below the folder where applications keep their settings.
const APPLICATION_FILES: &[(Client, &str)] = &[
    (Client::Claude, "Claude/claude_desktop_config.json"),
    (Client::VsCode, "Code/User/mcp.json"),
    (Client::VsCode, "Code/User/settings.json"),
    (Client::VsCode, "Code - Insiders/User/mcp.json"),
    (Client::VsCode, "Code - Insiders/User/settings.json"),
    (Client::VsCode, "VSCodium/User/mcp.json"),
    (Client::VsCode, "VSCodium/User/settings.json"),
    (Client::OneMcp, "1mcp/mcp.json"),
];

/// Below the home folder.
const HOME_FILES: &[(Client, &str)] = &[
    (Client::Claude, ".claude.json"),
    (Client::Cursor, ".cursor/mcp.json"),
    (Client::VsCode, ".vscode-server/data/User/mcp.json"),
];

/// In a folder of work, and of its servers alone.
const FOLDER_FILES: &[(Client, &str)] = &[
    (Client::Claude, ".mcp.json"),
    (Client::Cursor, ".cursor/mcp.json"),
    (Client::VsCode, ".vscode/mcp.json"),
    (Client::VsCode, ".vscode/settings.json"),
];

const ON_MACOS: &str = "Library/Application Support";

/// First what is for everywhere, then what belongs to the current folder.
pub fn usual(client: Client, around: &Around) -> Vec<Place> {
    let mut places = Vec::new();
    let on_macos = around.home.as_ref().map(|home| home.join(ON_MACOS));
    for base in [&around.config, &on_macos].into_iter().flatten() {
        places.extend(all(client, APPLICATION_FILES, base, None));
    }
    if let Some(home) = &around.home {
        places.extend(all(client, HOME_FILES, home, None));
    }
    if around.home.as_ref() != Some(&around.here) {
        let folder = Some(around.here.as_path());
        places.extend(all(client, FOLDER_FILES, &around.here, folder));
    }
    places
}

/// In a folder that was named: somebody's home, or a folder of work.
pub fn below(client: Client, folder: &Path, around: &Around) -> Vec<Place> {
    let is_home = around.home.as_deref() == Some(folder)
        || [".claude.json", ".config", "Library"]
            .iter()
            .any(|sign| folder.join(sign).exists());
    if is_home {
        let home = Some(folder.to_path_buf());
        let config = Some(folder.join(".config"));
        let here = folder.to_path_buf();
        return usual(client, &Around { home, config, here });
    }
    let mut places: Vec<Place> = all(client, FOLDER_FILES, folder, Some(folder)).collect();
    places.extend(all(client, APPLICATION_FILES, folder, None));
    // What stands in the folder itself, as in a copy of it.
    for (_, file) in APPLICATION_FILES
        .iter()
        .filter(|(whose, _)| *whose == client)
    {
        let name = Path::new(file).file_name().unwrap_or_default();
        let path = folder.join(name);
        if !places.iter().any(|place| place.path == path) {
            places.push(Place { path, folder: None });
        }
    }
    places
}

/// A file that was named; its folder follows from where such files lie.
pub fn named(file: &Path, around: &Around) -> Place {
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    let parent = path.parent();
    let inside = |name: &str| parent.is_some_and(|parent| parent.ends_with(name));
    let folder = match path.file_name().and_then(|name| name.to_str()) {
        Some(".mcp.json") => parent,
        Some(_) if inside(".cursor") || inside(".vscode") => parent.and_then(Path::parent),
        _ => None,
    };
    let folder = folder.filter(|folder| around.home.as_deref() != Some(*folder));
    let folder = folder.map(Path::to_path_buf);
    Place { path, folder }
}

/// VS Code has a folder for each profile beside its own file.
pub fn with_profiles(client: Client, places: Vec<Place>) -> Vec<Place> {
    if client != Client::VsCode {
        return places;
    }
    let mut all = Vec::new();
    for place in places {
        let beside = place.path.with_file_name("profiles");
        let is_user = place.path.ends_with("User/mcp.json");
        let folders = is_user.then(|| beside.read_dir().ok()).flatten();
        all.push(place);
        let mut found: Vec<PathBuf> = folders
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().join("mcp.json")))
            .collect();
        ordered::sort(&mut found);
        all.extend(found.into_iter().map(|path| Place { path, folder: None }));
    }
    all
}

fn all<'a>(
    client: Client,
    files: &'a [(Client, &str)],
    base: &'a Path,
    folder: Option<&'a Path>,
) -> impl Iterator<Item = Place> + 'a {
    let files = files.iter().filter(move |(whose, _)| *whose == client);
    files.map(move |(_, file)| Place {
        path: base.join(file),
        folder: folder.map(Path::to_path_buf),
    })
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Around, Place, named, usual};
    use crate::cli::args::Client;

    fn around() -> Around {
        Around {
            home: Some(PathBuf::from("/home/me")),
            config: Some(PathBuf::from("/home/me/.config")),
            here: PathBuf::from("/work/app"),
        }
    }

    fn shown(places: &[Place]) -> Vec<String> {
        let one = |place: &Place| match &place.folder {
            Some(folder) => format!("{} of {}", place.path.display(), folder.display()),
            None => place.path.display().to_string(),
        };
        places.iter().map(one).collect()
    }

    #[test]
    fn every_program_has_its_places() {
        assert_eq!(
            shown(&usual(Client::Claude, &around())),
            [
                "/home/me/.config/Claude/claude_desktop_config.json",
                "/home/me/Library/Application Support/Claude/claude_desktop_config.json",
                "/home/me/.claude.json",
                "/work/app/.mcp.json of /work/app",
            ]
        );
        assert_eq!(
            shown(&usual(Client::Cursor, &around())),
            [
                "/home/me/.cursor/mcp.json",
                "/work/app/.cursor/mcp.json of /work/app"
            ]
        );
        let code = shown(&usual(Client::VsCode, &around()));
        assert_eq!(code[0], "/home/me/.config/Code/User/mcp.json");
        assert_eq!(
            code.last().unwrap(),
            "/work/app/.vscode/settings.json of /work/app"
        );
        assert_eq!(
            shown(&usual(Client::OneMcp, &around()))[0],
            "/home/me/.config/1mcp/mcp.json"
        );
        let at_home = Around {
            here: PathBuf::from("/home/me"),
            ..around()
        };
        assert_eq!(
            shown(&usual(Client::Cursor, &at_home)),
            ["/home/me/.cursor/mcp.json"]
        );
    }

    #[test]
    fn the_folder_of_a_file_follows_from_its_place() {
        let check = |file: &str, expect: Option<&str>| {
            let place = named(Path::new(file), &around());
            assert_eq!(place.folder.as_deref(), expect.map(Path::new), "{file}");
        };
        check("/work/app/.mcp.json", Some("/work/app"));
        check("/work/app/.vscode/mcp.json", Some("/work/app"));
        check("/work/app/.cursor/mcp.json", Some("/work/app"));
        check("/home/me/.cursor/mcp.json", None);
        check("/work/app/mcp.json", None);
        check("/home/me/.claude.json", None);
    }
}
