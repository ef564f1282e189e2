// Package interop holds the tests in which SOAP clients of other makers and languages use a BIOS.v service as
// its customers do: the program itself, on a data folder of its own, over TLS, with the contract as it is served.
// It holds nothing that other packages use.
//
//	scripts/setup.sh && go test -tags e2e ./internal/interop/...            zeep, gSOAP, node-soap, JAX-WS, gowsdl
//	scripts/setup.sh interop && go test -tags interop -v ./internal/interop/... those, and suds, PHP, CXF, .NET
//
// The clients are in testdata/interop. Each calls every operation over SOAP 1.1 and 1.2, checks what it gets,
// and says so, an operation a line; here it is asserted that no operation of the contract is missing, and that
// every answer is valid against the schema that the service serves, by xmllint. A client calls an operation that
// it has not heard of with the least arguments that the contract allows, and wants an answer or a fault of the
// contract, so a new operation is covered without a change here.
package interop
