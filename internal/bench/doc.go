// Package bench measures what a request costs the service. It holds nothing that other packages use.
//
// Begin with the table, which make bench prints: CPU time of the server process for each request, of the program as
// it is shipped (a TPM, TLS 1.3, client certificates, state on disk), and beside it of a net/http server behind the
// same listener that answers with the same bytes and does nothing else. What lies between the two is BIOS.v; the rest
// is TLS and HTTP. Server and loader have a core each, and the cases take turns, so that what else the machine does
// meanwhile falls on all of them.
//
//	go test -tags bench -count=1 -run TestRequests ./internal/bench [-args -rounds 7 -time 2s]
//
// The benchmarks say where the time goes: the codec, the gate with the function behind it, a commit; and, beside the
// door, what a guest waits for when it asks for its variables.
//
//	go test -run - -bench . -benchmem ./internal/bench ./service/uefi
package bench
