package trust

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/project"
)

// git runs git in dir, with nothing of the user's configuration.
func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "HOME="+dir,
		"GIT_AUTHOR_NAME=x", "GIT_AUTHOR_EMAIL=x@example.com", "GIT_COMMITTER_NAME=x", "GIT_COMMITTER_EMAIL=x@example.com")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// repository is a repository with a project in its top and one in sub, and one linked worktree.
type repository struct {
	top, main, linked string
	store             Store
}

func newRepository(t *testing.T) repository {
	t.Helper()
	top := resolveLinks(t, t.TempDir())
	r := repository{top: top, main: filepath.Join(top, "main"), linked: filepath.Join(top, "linked"), store: newStore(t)}
	write(t, filepath.Join(r.main, project.ConfigName), config)
	write(t, filepath.Join(r.main, "sub", project.ConfigName), config+"# sub\n")
	write(t, filepath.Join(r.main, ".gitignore"), project.EnvName+"\n")
	git(t, r.main, "init", "-q")
	git(t, r.main, "add", ".")
	git(t, r.main, "commit", "-q", "-m", "x")
	git(t, r.main, "worktree", "add", "-q", r.linked)
	return r
}

func (r repository) allow(t *testing.T, root string) {
	t.Helper()
	must(t, r.store.Allow(readFiles(t, root)))
}

func TestWorktree_OfAnAllowedCheckoutIsAllowed(t *testing.T) {
	r := newRepository(t)
	wantVerdict(t, r.store, r.linked, Unknown)
	r.allow(t, r.main)
	wantVerdict(t, r.store, r.linked, Allowed)
	wantVerdict(t, r.store, filepath.Join(r.linked, "sub"), Unknown) // its own project, not allowed anywhere
	r.allow(t, filepath.Join(r.main, "sub"))
	wantVerdict(t, r.store, filepath.Join(r.linked, "sub"), Allowed)
	write(t, filepath.Join(r.linked, project.ConfigName), config+"\n")
	wantVerdict(t, r.store, r.linked, Unknown)
	write(t, filepath.Join(r.linked, project.ConfigName), config)
	write(t, filepath.Join(r.linked, project.EnvName), "")
	wantVerdict(t, r.store, r.linked, Unknown)
}

func TestWorktree_AllowsSiblingsButNotTheMainCheckout(t *testing.T) {
	r := newRepository(t)
	second := filepath.Join(r.top, "second")
	git(t, r.main, "worktree", "add", "-q", second)
	r.allow(t, r.linked)
	wantVerdict(t, r.store, second, Allowed)
	wantVerdict(t, r.store, r.main, Unknown)
}

func TestWorktree_DeniedStaysDenied(t *testing.T) {
	r := newRepository(t)
	r.allow(t, r.main)
	must(t, r.store.Deny(readFiles(t, r.linked)))
	wantVerdict(t, r.store, r.linked, Denied)
	write(t, r.store.recordPath(filepath.Join(r.linked, project.ConfigName)), "torn")
	wantVerdict(t, r.store, r.linked, Unknown)
}

func TestWorktree_OfADeniedCheckoutIsUnknown(t *testing.T) {
	r := newRepository(t)
	r.allow(t, r.main)
	must(t, r.store.Deny(readFiles(t, r.main)))
	wantVerdict(t, r.store, r.linked, Unknown)
}

func TestWorktree_UsesTheMainCheckoutsDotEnv(t *testing.T) {
	r := newRepository(t)
	write(t, filepath.Join(r.main, project.EnvName), "A=1")
	r.allow(t, r.main)
	verdict, effective, err := r.store.Ask(readFiles(t, r.linked))
	if verdict != Allowed || err != nil || string(effective.DotEnv) != "A=1" || effective.Root != r.linked ||
		effective.DotEnvPath != filepath.Join(r.main, project.EnvName) {
		t.Errorf("%s, %+v, %v", verdict, effective, err)
	}
	if f := readFiles(t, r.linked); f.DotEnv != nil {
		t.Error("the files asked about were changed")
	}
	second := filepath.Join(r.top, "second")
	git(t, r.main, "worktree", "add", "-q", second)
	wantVerdict(t, r.store, second, Allowed)

	write(t, filepath.Join(r.main, project.EnvName), "A=2") // it acts in the worktree, so it asks again there too
	wantVerdict(t, r.store, r.linked, Unknown)
	r.allow(t, r.linked)
	wantVerdict(t, r.store, r.linked, Allowed)
	write(t, filepath.Join(r.main, project.EnvName), "A=3")
	wantVerdict(t, r.store, r.linked, Changed)

	write(t, filepath.Join(r.linked, project.EnvName), "B=1")
	if _, effective, err := r.store.Ask(readFiles(t, r.linked)); err != nil || string(effective.DotEnv) != "B=1" {
		t.Errorf("its own .env: %+v, %v", effective, err)
	}
}

func TestWorktree_UsesTheMainCheckoutsLocalOverride(t *testing.T) {
	r := newRepository(t)
	override := filepath.Join(r.main, project.LocalName)
	write(t, override, "[services.other]\ntechnology = \"tcp\"\nremote_port = 1\nconnection = { host = \"h\" }\n")
	r.allow(t, r.main)
	verdict, files, err := r.store.Ask(readFiles(t, r.linked))
	if verdict != Allowed || err != nil {
		t.Fatalf("%v, %v", verdict, err)
	}
	if files.LocalPath != override || !strings.Contains(string(files.Local), "services.other") {
		t.Errorf("read %s: %q", files.LocalPath, files.Local)
	}
	own := filepath.Join(r.linked, project.LocalName)
	write(t, own, "")
	if verdict, files, err = r.store.Ask(readFiles(t, r.linked)); verdict != Unknown || err != nil || files.LocalPath != own {
		t.Errorf("with an override of its own: %v, %v, %s", verdict, err, files.LocalPath)
	}
	must(t, os.Remove(own))
	write(t, override, "# changed\n") // it acts in the worktree, so it asks again there too
	if verdict, _, err = r.store.Ask(readFiles(t, r.linked)); verdict != Unknown || err != nil {
		t.Errorf("after a change: %v, %v", verdict, err)
	}
}

func TestWorktree_MovedIsUnknownUntilRepaired(t *testing.T) {
	r := newRepository(t)
	r.allow(t, r.main)
	moved := filepath.Join(r.top, "moved")
	must(t, os.Rename(r.linked, moved))
	wantVerdict(t, r.store, moved, Unknown)
	git(t, moved, "worktree", "repair")
	wantVerdict(t, r.store, moved, Allowed)
}

func TestWorktree_PrunedIsUnknown(t *testing.T) {
	r := newRepository(t)
	r.allow(t, r.main)
	hidden := filepath.Join(r.top, "hidden")
	must(t, os.Rename(r.linked, hidden))
	git(t, r.main, "worktree", "prune")
	must(t, os.Rename(hidden, r.linked))
	wantVerdict(t, r.store, r.linked, Unknown)
}

func TestWorktree_ThroughASymbolicLinkIsTheSame(t *testing.T) {
	r := newRepository(t)
	r.allow(t, r.main)
	link := filepath.Join(r.top, "link")
	must(t, os.Symlink(r.linked, link))
	wantVerdict(t, r.store, link, Allowed)
}

func TestWorktree_AddedThroughASymbolicLinkIsAllowed(t *testing.T) {
	r := newRepository(t)
	r.allow(t, r.main)
	link := filepath.Join(r.top, "link")
	must(t, os.Symlink(r.top, link))
	git(t, filepath.Join(link, "main"), "worktree", "add", "-q", filepath.Join(link, "third"))
	wantVerdict(t, r.store, filepath.Join(r.top, "third"), Allowed)
}

func TestWorktree_OfABareRepositoryIsAllowedByASibling(t *testing.T) {
	r := newRepository(t)
	bare := filepath.Join(r.top, "bare.git")
	git(t, r.top, "clone", "-q", "--bare", r.main, bare)
	a, b := filepath.Join(r.top, "a"), filepath.Join(r.top, "b")
	git(t, bare, "worktree", "add", "-q", a)
	git(t, bare, "worktree", "add", "-q", b)
	wantVerdict(t, r.store, b, Unknown)
	r.allow(t, a)
	wantVerdict(t, r.store, b, Allowed)
	wantVerdict(t, r.store, r.linked, Unknown) // another repository
}

func TestWorktree_SubmoduleIsNone(t *testing.T) {
	r := newRepository(t)
	r.allow(t, r.main)
	outer := filepath.Join(r.top, "outer")
	must(t, os.Mkdir(outer, 0o755))
	git(t, outer, "init", "-q")
	git(t, outer, "-c", "protocol.file.allow=always", "submodule", "add", "-q", r.main, "inner")
	wantVerdict(t, r.store, filepath.Join(outer, "inner"), Unknown)
}

func TestWorktree_ForgedGitFileIsRejected(t *testing.T) {
	r := newRepository(t)
	r.allow(t, r.main)
	write(t, filepath.Join(r.main, project.EnvName), "SECRET=1")
	entry := filepath.Join(r.main, ".git", "worktrees", "linked")
	forged := filepath.Join(r.top, "forged")
	write(t, filepath.Join(forged, project.ConfigName), config)
	git := filepath.Join(forged, ".git")
	for _, text := range []string{
		"gitdir: " + entry + "\n",
		"gitdir: " + filepath.Join(r.main, ".git") + "\n",
		"gitdir: ../main/.git/worktrees/linked",
		"gitdir: \n", "", "gitdir", "gitdir: /nonexistent/worktrees/x\n", "gitdir: /\n", "gitdir: \x00\n",
		strings.Repeat("x", maxPointerSize+1),
	} {
		write(t, git, text)
		verdict, effective, err := r.store.Ask(readFiles(t, forged))
		if verdict != Unknown || effective.DotEnv != nil || err != nil {
			t.Errorf("%.60q: %s, .env %q, %v", text, verdict, effective.DotEnv, err)
		}
	}
	must(t, os.Remove(git))
	must(t, os.Symlink(filepath.Join(r.linked, ".git"), git))
	wantVerdict(t, r.store, forged, Unknown)
	must(t, os.Remove(git))
	must(t, os.Symlink(filepath.Join(r.main, ".git"), git))
	wantVerdict(t, r.store, forged, Unknown)
}

// A repository that came in an archive may list an allowed checkout of the user's among its worktrees.
func TestWorktree_ForgedRepositoryCannotClaimAnotherCheckout(t *testing.T) {
	r := newRepository(t)
	stranger := filepath.Join(r.top, "stranger") // allowed, and of no repository
	write(t, filepath.Join(stranger, project.ConfigName), config)
	r.allow(t, stranger)
	r.allow(t, r.main)
	r.allow(t, r.linked)

	evil := filepath.Join(r.top, "evil")
	write(t, filepath.Join(evil, "main", project.ConfigName), config)
	write(t, filepath.Join(evil, "wt", project.ConfigName), config)
	common := filepath.Join(evil, "main", ".git")
	entry := func(name, gitdir string) {
		write(t, filepath.Join(common, "worktrees", name, "commondir"), "../..\n")
		write(t, filepath.Join(common, "worktrees", name, "gitdir"), gitdir+"\n")
	}
	entry("wt", filepath.Join(evil, "wt", ".git"))
	write(t, filepath.Join(evil, "wt", ".git"), "gitdir: "+filepath.Join(common, "worktrees", "wt")+"\n")
	for i, named := range []string{stranger, r.main, r.linked} {
		entry("named"+string(rune('0'+i)), filepath.Join(named, ".git"))
	}
	wantVerdict(t, r.store, filepath.Join(evil, "wt"), Unknown)

	r.allow(t, filepath.Join(evil, "main")) // the forgery is whole: with its own main checkout it works
	wantVerdict(t, r.store, filepath.Join(evil, "wt"), Allowed)
}

func TestWorktree_LinkOutOfTheOtherCheckoutIsRejected(t *testing.T) {
	r := newRepository(t)
	stranger := filepath.Join(r.top, "stranger")
	write(t, filepath.Join(stranger, project.ConfigName), config)
	r.allow(t, stranger)
	must(t, os.Symlink(stranger, filepath.Join(r.main, "deep")))
	write(t, filepath.Join(r.linked, "deep", project.ConfigName), config)
	wantVerdict(t, r.store, filepath.Join(r.linked, "deep"), Unknown)
}

func TestWorktree_OfAnotherUsersRepositoryIsUnknown(t *testing.T) {
	r := newRepository(t)
	r.allow(t, r.main)
	if os.Getuid() != 0 { // only root can give a file away
		t.Log("not tried: this user cannot make another user's repository")
		return
	}
	must(t, os.Chown(filepath.Join(r.main, ".git"), 1234, -1))
	wantVerdict(t, r.store, r.linked, Unknown)
	must(t, os.Chown(filepath.Join(r.main, ".git"), 0, -1))
	must(t, os.Chown(filepath.Join(r.linked, ".git"), 1234, -1))
	wantVerdict(t, r.store, r.linked, Unknown)
}
