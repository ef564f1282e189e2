//go:build e2e || interop

package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"

	"biosv/generated"
	"biosv/wsdl"
)

// A toolkit is a SOAP toolkit with a client made with it.
type toolkit struct {
	name string
	// prepare makes the client, where it is not made already, and gives the command that runs it.
	prepare func(t *testing.T) []string
	// cannot is what the toolkit itself is not able to do, with the reason: the operations and faults that may be
	// missing ("GetDomain SOAP1.2"), a whole version ("SOAP1.2"), or anything else that people should know.
	cannot map[string]string
}

var versions = []string{"SOAP1.1", "SOAP1.2"}

// faults are what every client provokes and reads as the type that the contract names.
var faults = []string{"InvalidAttributeFault", "ConflictFault", "NotFoundFault", "InvalidRequestFault"}

// run runs a toolkit's client against a service of its own and asserts that nothing was left out, and that
// every answer was valid.
func (k toolkit) run(t *testing.T) {
	command := k.prepare(t)
	s := start(t)
	answers := t.TempDir()
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	began := time.Now()
	client := exec.CommandContext(ctx, command[0], command[1:]...)
	client.Dir = answers
	client.Env = append(os.Environ(),
		"BIOSV_URL="+s.url, "BIOSV_ROOTS="+s.roots, "BIOSV_CERT="+s.cert, "BIOSV_KEY="+s.key,
		"BIOSV_ANSWERS="+answers, "BIOSV_OPERATOR_CSR="+s.operatorCSR, "BIOSV_TOOL="+k.name,
		"BIOSV_SIGN="+filepath.Join(root, "testdata", "interop", "sign.sh"), "BIOSV_CA="+s.ca, "BIOSV_CA_KEY="+s.caKey,
		"LC_ALL=C.UTF-8",
	)
	var stderr bytes.Buffer
	client.Stderr = &stderr
	out, err := client.Output()
	if err != nil {
		t.Errorf("the client of %s failed: %v\n%s\n%s", k.name, err, tail(out, 3000), tail(stderr.Bytes(), 5000))
	}

	told := map[string]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.SplitN(strings.TrimSpace(line), " ", 4)
		if len(words) < 3 {
			continue
		}
		key := words[1] + " " + words[2]
		if words[0] == "ok" {
			told[key] = strings.TrimSpace(line)
		}
	}
	for _, version := range versions {
		for _, op := range generated.Operations {
			if told[op.Name+" "+version] == "" && k.cannot[op.Name+" "+version] == "" && k.cannot[version] == "" {
				t.Errorf("%s did not call %s over %s", k.name, op.Name, version)
			}
		}
		for _, fault := range faults {
			if told[fault+" "+version] == "" && k.cannot[fault+" "+version] == "" && k.cannot[version] == "" {
				t.Errorf("%s did not get a %s over %s", k.name, fault, version)
			}
		}
	}
	count := s.validate(t, answers, told)
	t.Logf("%s: %d answers, all valid, in %.1f s", k.name, count, time.Since(began).Seconds())
}

// validate has xmllint check every answer that a client kept, and asserts that every operation that it told
// of has one: a message of its own, or a fault where the client told of one.
func (s *service) validate(t *testing.T, dir string, told map[string]string) int {
	t.Helper()
	unpackResponses(t, dir)
	files, err := filepath.Glob(filepath.Join(dir, "*.xml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the client kept no answers (%v)", err)
	}
	lint := exec.Command("xmllint", append([]string{"--noout", "--nonet", "--schema", s.schema}, files...)...)
	if out, err := lint.CombinedOutput(); err != nil {
		var wrong []string
		for line := range strings.Lines(string(out)) {
			if !strings.HasSuffix(strings.TrimSpace(line), " validates") {
				wrong = append(wrong, line)
			}
		}
		t.Errorf("xmllint: %v\n%s", err, tail([]byte(strings.Join(wrong, "")), 5000))
	}
	seen := map[string]bool{}
	for _, file := range files {
		doc := etree.NewDocument()
		if err := doc.ReadFromFile(file); err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
			continue
		}
		version := "SOAP1.1"
		if doc.Root().NamespaceURI() == "http://www.w3.org/2003/05/soap-envelope" {
			version = "SOAP1.2"
		}
		body := doc.FindElement("/Envelope/Body/*")
		if body == nil {
			t.Errorf("%s has no body", filepath.Base(file))
			continue
		}
		if body.Tag == "Fault" {
			if detail := body.FindElement("./detail/*"); detail != nil {
				seen[detail.Tag+" "+version] = true
			} else if detail := body.FindElement("./Detail/*"); detail != nil {
				seen[detail.Tag+" "+version] = true
			}
			continue
		}
		seen[strings.TrimSuffix(body.Tag, "Response")+" "+version] = true
	}
	for key, line := range told {
		if !strings.Contains(line, "arguments:") && !seen[key] {
			t.Errorf("no answer was kept for %q", line)
		}
	}
	return len(files)
}

// unpackResponses takes the bodies out of .http files, which hold HTTP/1.1 answers as they came.
func unpackResponses(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.http"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		in := bufio.NewReader(bytes.NewReader(read(t, file)))
		for i := 1; ; i++ {
			if _, err := in.Peek(1); errors.Is(err, io.EOF) {
				break
			}
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("%s, answer %d: %v", filepath.Base(file), i, err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatalf("%s, answer %d: %v", filepath.Base(file), i, err)
			}
			write(t, fmt.Sprintf("%s.%04d.xml", strings.TrimSuffix(file, ".http"), i), body)
		}
	}
}

// installed asserts that scripts/setup.sh has put something in place, from the files as they are now.
func installed(t *testing.T, name, how string, from ...string) string {
	t.Helper()
	sum := sha256.New()
	for _, f := range from {
		sum.Write(read(t, filepath.Join(root, "testdata", "interop", f)))
	}
	dir := filepath.Join(cache, name)
	have, err := os.ReadFile(filepath.Join(dir, "made-from"))
	if err != nil || strings.TrimSpace(string(have)) != fmt.Sprintf("%x", sum.Sum(nil)) {
		t.Fatalf("what %s names is not in .cache/interop/%s, or is another version: run %s", from, name, how)
	}
	return dir
}

const (
	setup    = "scripts/setup.sh test"
	setupAll = "scripts/setup.sh interop"
)

// tool asserts that a program is there.
func tool(t *testing.T, name, how string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is not installed: run %s", name, how)
	}
}

// made gives a folder with what build made, which runs only when its inputs are not what they were: the
// published contract, the files named, and whatever else key says, such as a compiler's version. build finds
// the contract in the folder.
func made(t *testing.T, name, key string, from []string, build func(dir string)) string {
	t.Helper()
	contract, err := wsdl.Published()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	parts := [][]byte{[]byte(key), contract.WSDL, contract.Schema}
	for _, f := range from {
		parts = append(parts, read(t, filepath.Join(root, "testdata", "interop", f)))
	}
	for _, p := range parts {
		fmt.Fprintf(sum, "%d:", len(p))
		sum.Write(p)
	}
	place := filepath.Join(cache, "made")
	dir := filepath.Join(place, fmt.Sprintf("%s-%x", name, sum.Sum(nil)[:8]))
	done := filepath.Join(dir, "done")
	if _, err := os.Stat(done); err == nil {
		return dir
	}
	began := time.Now()
	old, err := filepath.Glob(filepath.Join(place, name+"-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range old {
		if err := os.RemoveAll(o); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "bios.wsdl"), contract.WSDL)
	write(t, filepath.Join(dir, wsdl.SchemaName), contract.Schema)
	build(dir)
	write(t, done, nil)
	t.Logf("made the client of %s in %.1f s", name, time.Since(began).Seconds())
	return dir
}

// command runs a program of a build in a folder and gives what it printed.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, tail(out, 5000))
	}
	return string(out)
}

var zeep = toolkit{name: "zeep", prepare: func(t *testing.T) []string {
	venv := installed(t, "python", setup, "python/requirements.txt")
	return []string{filepath.Join(venv, "bin", "python"), "-B", filepath.Join(root, "testdata", "interop", "python", "zeep_client.py")}
}}

var nodeSoap = toolkit{name: "node", prepare: func(t *testing.T) []string {
	tool(t, "node", setup)
	modules := filepath.Join(installed(t, "node", setup, "node/package.json", "node/package-lock.json"), "node_modules")
	return []string{"env", "NODE_PATH=" + modules, "node", filepath.Join(root, "testdata", "interop", "node", "client.js")}
}}

var gsoap = toolkit{name: "gsoap", prepare: func(t *testing.T) []string {
	for _, name := range []string{"wsdl2h", "soapcpp2", "g++", "pkg-config"} {
		tool(t, name, setup)
	}
	// soapcpp2 -h fails, and says which version it is.
	version, _ := exec.Command("soapcpp2", "-v", "-h").CombinedOutput()
	dir := made(t, "gsoap", string(version), []string{"gsoap/client.cpp"}, func(dir string) {
		var list strings.Builder
		for _, op := range generated.Operations {
			fmt.Fprintf(&list, "OPERATION(%s)\n", op.Name)
		}
		for _, f := range generated.Faults {
			fmt.Fprintf(&list, "FAULT(%s)\n", f.Name)
		}
		write(t, filepath.Join(dir, "operations.inc"), []byte(list.String()))
		command(t, dir, "wsdl2h", "-v", "-Nbios", "-o", "bios.h", "bios.wsdl")
		command(t, dir, "soapcpp2", "-j", "-C", "-L", "-w", "-x", "bios.h")
		// The library's own flags: struct soap has another layout without them.
		compile := append([]string{"-std=c++17", "-I."}, strings.Fields(command(t, dir, "pkg-config", "--cflags", "gsoapssl++"))...)
		for _, source := range []string{"soapC.cpp", "soapBiosProxy.cpp", "soapBios12Proxy.cpp"} {
			command(t, dir, "g++", append(compile, "-w", "-c", source)...)
		}
		command(t, dir, "g++", append(compile, "-Wall", "-Wextra", "-c", filepath.Join(root, "testdata", "interop", "gsoap", "client.cpp"))...)
		link := append([]string{"-o", "client", "client.o", "soapC.o", "soapBiosProxy.o", "soapBios12Proxy.o"}, strings.Fields(command(t, dir, "pkg-config", "--libs", "gsoapssl++"))...)
		command(t, dir, "g++", append(link, "-lssl", "-lcrypto")...)
	})
	return []string{filepath.Join(dir, "client")}
}}

var jaxws = toolkit{name: "jaxws", prepare: func(t *testing.T) []string {
	tool(t, "javac", setup)
	jars := filepath.Join(installed(t, "jaxws", setup, "jaxws/pom.xml"), "jars", "*")
	dir := made(t, "jaxws", string(read(t, filepath.Join(root, "testdata", "interop", "jaxws", "pom.xml"))), []string{"java/Client.java"}, func(dir string) {
		for _, d := range []string{"src", "classes"} {
			if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		// -extension: wsimport calls the standard SOAP 1.2 binding an extension.
		command(t, dir, "java", "-cp", jars, "com.sun.tools.ws.WsImport", "-extension", "-quiet", "-Xnocompile", "-p", "biosv.client", "-s", "src", "-d", "src", "bios.wsdl")
		javac(t, dir, jars)
	})
	return java(dir, jars)
}}

func javac(t *testing.T, dir, jars string) {
	t.Helper()
	sources, err := filepath.Glob(filepath.Join(dir, "src", "biosv", "client", "*.java"))
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources were generated (%v)", err)
	}
	command(t, dir, "javac", slices.Concat([]string{"-nowarn", "-encoding", "UTF-8", "-cp", jars, "-d", "classes"}, sources,
		[]string{filepath.Join(root, "testdata", "interop", "java", "Client.java")})...)
}

func java(dir, jars string) []string {
	return []string{"java", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8",
		"-cp", filepath.Join(dir, "classes") + string(os.PathListSeparator) + jars, "Client"}
}

// TestClients is every operation, over both versions of SOAP, by four independent makers' toolkits.
func TestClients(t *testing.T) {
	tool(t, "xmllint", setup)
	tool(t, "openssl", setup)
	for _, k := range []toolkit{jaxws, gsoap, zeep, nodeSoap} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			k.run(t)
		})
	}
}
