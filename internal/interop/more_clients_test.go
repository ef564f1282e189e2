//go:build interop

package interop

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"biosv/wsdl"
)

var suds = toolkit{
	name: "suds",
	prepare: func(t *testing.T) []string {
		venv := installed(t, "python", setupAll, "python/requirements.txt")
		return []string{filepath.Join(venv, "bin", "python"), "-B", filepath.Join(root, "testdata", "interop", "python", "suds_client.py")}
	},
	cannot: map[string]string{
		"SOAP1.2":        "suds writes SOAP 1.1 envelopes only, also for the port Bios12",
		"base64Binary":   "the caller encodes and decodes it: suds takes and gives its text",
		"typed faults":   "a fault's detail is an object made from the XML, not of the type in the schema",
		"absent or none": "None leaves an element out, so what is required can be left out unnoticed; the service refuses it",
	},
}

var php = toolkit{
	name: "php",
	prepare: func(t *testing.T) []string {
		tool(t, "php", setupAll)
		return []string{"php", "-d", "display_errors=stderr", filepath.Join(root, "testdata", "interop", "php", "client.php")}
	},
	cannot: map[string]string{
		"typed faults":  "a fault's detail is an object made from the XML: what stands once is no array",
		"typed classes": "there is no code generator: requests and answers are arrays and stdClass",
		"enumerations":  "values are not checked before they are sent; the service refuses them",
		"unsignedLong":  "values above 2^63 become floating point numbers",
	},
}

var cxf = toolkit{
	name: "cxf",
	prepare: func(t *testing.T) []string {
		tool(t, "javac", setupAll)
		jars := filepath.Join(installed(t, "cxf", setupAll, "cxf/pom.xml"), "jars", "*")
		dir := made(t, "cxf", string(read(t, filepath.Join(root, "testdata", "interop", "cxf", "pom.xml"))), []string{"java/Client.java"}, func(dir string) {
			for _, d := range []string{"src", "classes"} {
				if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			command(t, dir, "java", "-cp", jars, "org.apache.cxf.tools.wsdlto.WSDLToJava", "-p", "biosv.client", "-d", "src", "bios.wsdl")
			javac(t, dir, jars)
		})
		return java(dir, jars)
	},
	cannot: map[string]string{
		"typed faults of SOAP 1.2": "read only where org.apache.cxf.transport.process_fault_on_http_400 is set: SOAP 1.2 sends a sender's with 400",
	},
}

var dotnet = toolkit{
	name: "dotnet",
	prepare: func(t *testing.T) []string {
		for _, name := range []string{"mono", "mcs", "wsdl", "cert-sync"} {
			tool(t, name, setupAll)
		}
		dir := made(t, "dotnet", command(t, root, "mcs", "--version"), []string{"dotnet/Client.cs", "dotnet/client.exe.config"}, func(dir string) {
			command(t, dir, "wsdl", "/out:Bios.cs", "/namespace:BiosV", "bios.wsdl", wsdl.SchemaName)
			command(t, dir, "mcs", "-out:client.exe", "-r:System.Web.Services", "-r:System.Web", "Bios.cs", filepath.Join(root, "testdata", "interop", "dotnet", "Client.cs"))
			write(t, filepath.Join(dir, "client.exe.config"), read(t, filepath.Join(root, "testdata", "interop", "dotnet", "client.exe.config")))
		})
		return []string{filepath.Join(root, "testdata", "interop", "dotnet", "run.sh"), filepath.Join(dir, "client.exe")}
	},
	cannot: map[string]string{
		"reading the WSDL over TLS": "Mono's wsdl asks with no client certificate and its own roots; the code is made from the published files",
		"typed faults":              "wsdl makes no types of faults: the detail is XML",
		"WCF":                       "Mono's svcutil 0.1 mixes up the operations' types, and what it writes does not compile; this is the older web service client",
	},
}

// TestMoreClients is every operation by further toolkits, as far as each of them goes. What they cannot do is
// printed at the end.
func TestMoreClients(t *testing.T) {
	more := []toolkit{cxf, suds, php, dotnet}
	tool(t, "xmllint", setupAll)
	tool(t, "openssl", setupAll)
	t.Run("all", func(t *testing.T) {
		for _, k := range more {
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				k.run(t)
			})
		}
	})
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, k := range append([]toolkit{zeep, gsoap, nodeSoap, jaxws}, more...) {
		if len(k.cannot) == 0 {
			fmt.Fprintf(w, "%s\tnothing\t\n", k.name)
		}
		for _, what := range slices.Sorted(maps.Keys(k.cannot)) {
			fmt.Fprintf(w, "%s\t%s\t%s\n", k.name, what, k.cannot[what])
		}
	}
	w.Flush()
	fmt.Printf("\nWhat each toolkit cannot do:\n\n%s\n", table.String())
}
