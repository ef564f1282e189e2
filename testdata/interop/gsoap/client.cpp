// Calls every operation of a BIOS.v service with gSOAP, over SOAP 1.1 and over SOAP 1.2: two proxies, which
// soapcpp2 made of the two bindings.
//
// The README one folder up tells what the environment variables mean. One line is printed for each operation
// and each fault that was as it should be, and the program fails at the first that was not.
//
// operations.inc, made of the contract beside the proxies, holds OPERATION(Name) and FAULT(Name) for each.

#include "soapBiosProxy.h"
#include "soapBios12Proxy.h"
#include "Bios.nsmap"

#include <openssl/sha.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

std::string variable(const char *name) {
  const char *value = getenv(name);
  if (value == nullptr) throw std::runtime_error(std::string(name) + " is not set");
  return value;
}

std::string contents(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::set<std::string> done;

void ok(const std::string &what, const std::string &version) {
  if (done.insert(what + " " + version).second) std::cout << "ok " << what << " " << version << std::endl;
}

void check(bool condition, const std::string &message) {
  if (!condition) throw std::runtime_error(message);
}

// A fault of the contract: its name, and its detail as the types that gSOAP made of it.
struct Refused {
  std::string name, text;
  SOAP_ENV__Detail *detail;
};

std::string name_of(const SOAP_ENV__Detail *d) {
#define OPERATION(name)
#define FAULT(name) \
  if (d->bios__##name != nullptr) return #name;
#include "operations.inc"
#undef FAULT
#undef OPERATION
  throw std::runtime_error("the fault's detail is none of the contract's");
}

// Answers are kept as they came: frecv gives what TLS decrypted.
size_t (*receive)(struct soap *, char *, size_t);
size_t record(struct soap *s, char *buffer, size_t n) {
  n = receive(s, buffer, n);
  if (s->user != nullptr) fwrite(buffer, 1, n, static_cast<FILE *>(s->user));
  return n;
}

// A TLS connection of its own, with a proxy.
template <class Proxy>
class Connection {
 public:
  explicit Connection(const std::string &version) : url(variable("BIOSV_URL")), context(soap_new1(SOAP_IO_KEEPALIVE | SOAP_XML_STRICT | SOAP_C_UTFSTRING)), proxy(context) {
    // gSOAP wants certificate and key in one file.
    std::string identity = variable("BIOSV_ANSWERS") + "/identity." + std::to_string(getpid()) + ".pem";
    umask(077);
    std::ofstream(identity, std::ios::binary) << contents(variable("BIOSV_CERT")) << contents(variable("BIOSV_KEY"));
    int failed = soap_ssl_client_context(context, SOAP_SSL_DEFAULT, identity.c_str(), nullptr, variable("BIOSV_ROOTS").c_str(), nullptr, nullptr);
    unlink(identity.c_str());
    if (failed) complain();
    context->recv_timeout = context->send_timeout = 30;
    // gSOAP makes one table of namespaces for both ports, and it begins with SOAP 1.2's: what is sent is what stands
    // first, and what is understood is both.
    for (const Namespace *n = namespaces; n->id != nullptr; n++) table.push_back(*n);
    table.push_back({nullptr, nullptr, nullptr, nullptr});
    if (version == "SOAP1.1") {
      for (int i : {0, 1}) std::swap(table[i].ns, table[i].in);
    }
    soap_set_namespaces(context, table.data());

    // The contract comes over the same connection; the proxies were made of it before.
    size_t length = 0;
    if (soap_GET(context, (url + "?wsdl").c_str(), nullptr) || soap_begin_recv(context)) complain();
    const char *wsdl = soap_http_get_body(context, &length);
    if (wsdl == nullptr || soap_end_recv(context)) complain();
    check(std::string(wsdl, length).find("\"" + url + "\"") != std::string::npos, "the WSDL does not name the address that it was read at");

    static int number = 0;
    std::ostringstream file;
    file << variable("BIOSV_ANSWERS") << "/" << version << "-" << ++number << ".http";
    context->user = fopen(file.str().c_str(), "wb");
    receive = context->frecv;
    context->frecv = record;
  }
  ~Connection() {
    fclose(static_cast<FILE *>(context->user));
    context->user = nullptr;
    soap_destroy(context);
    soap_end(context);
  }

  // Calls an operation at the address of a domain; without one at the service's own.
  template <class Request, class Reply>
  Reply call(const std::string &domain, int (Proxy::*operation)(const char *, const char *, Request *, Reply &), Request request) {
    Reply reply;
    std::string endpoint = domain.empty() ? url : url + "/" + domain;
    if ((proxy.*operation)(endpoint.c_str(), nullptr, &request, reply) != SOAP_OK) {
      SOAP_ENV__Fault *fault = context->fault;
      SOAP_ENV__Detail *detail = fault == nullptr ? nullptr : fault->detail != nullptr ? fault->detail : fault->SOAP_ENV__Detail;
      if (detail == nullptr) complain();
      const char *text = soap_fault_string(context);
      throw Refused{name_of(detail), text == nullptr ? "" : text, detail};
    }
    return reply;
  }
  // The same without arguments, or with the least that there are.
  template <class Request, class Reply>
  Reply call(const std::string &domain, int (Proxy::*operation)(const char *, const char *, Request *, Reply &)) {
    Request request;
    request.soap_default(context);
    return call(domain, operation, request);
  }

  const std::string url;
  std::vector<Namespace> table;
  struct soap *context;
  Proxy proxy;

 private:
  [[noreturn]] void complain() {
    std::ostringstream text;
    soap_stream_fault(context, text);
    throw std::runtime_error(text.str());
  }
};


std::string digest(const xsd__base64Binary &b) {
  unsigned char sum[SHA256_DIGEST_LENGTH];
  SHA256(b.__ptr, b.__size, sum);
  char text[2 * SHA256_DIGEST_LENGTH + 1];
  for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) snprintf(text + 2 * i, 3, "%02x", sum[i]);
  return text;
}

template <class T>
bool holds(const std::vector<T> &values, const T &value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

template <class T>
T &named(const std::vector<T *> &values, const std::string &name) {
  for (T *v : values)
    if (v->Name == name) return *v;
  throw std::runtime_error(name + " is not there");
}

// What the service's owner does with a certificate request: signs it.
std::string sign(const std::string &request) {
  std::string file = variable("BIOSV_ANSWERS") + "/request.pem", chain;
  std::ofstream(file) << request;
  FILE *p = popen((variable("BIOSV_SIGN") + " < '" + file + "'").c_str(), "r");
  check(p != nullptr, "cannot run BIOSV_SIGN");
  for (char b[4096]; size_t n = fread(b, 1, sizeof b, p);) chain.append(b, n);
  check(pclose(p) == 0, "BIOSV_SIGN failed");
  return chain;
}

const std::set<std::string> late = {"BackupState", "RestoreState", "DestroyDomain", "CreateCertificateRequest", "InstallCertificateChain"};

template <class Proxy>
class Scenario {
 public:
  Scenario(const std::string &version, const std::string &name) : version(version), name(name), con(version) {}

  void run() {
    // Trust: whatever stands behind the channel can be read, and is what TLS showed.
    check(con.call("", &Proxy::GetTrustState).Trust != nullptr, "GetTrustState tells nothing");
    for (auto *c : con.call("", &Proxy::GetCertificateChain).Certificate) check(digest(c->Der) == c->Sha256, "the digest of " + c->Subject + " is not its DER form's");
    say({"GetTrustState", "GetCertificateChain"});

    // A domain of our own; its description holds what XML and UTF-8 make difficult.
    std::string description = "gsoap <&> \"é\" 日本 \U0001f600";
    unsigned int seed = 7;
    bios__CreateDomainRequest create;
    create.Name = name;
    create.DomainKind = bios__DomainKind__Simulated;
    create.Description = &description;
    create.SimulationSeed = &seed;
    auto *made = con.call("", &Proxy::CreateDomain, create).Domain;
    check(made->Name == name && *made->Description == description && *made->PowerState == bios__PowerState__Off, "CreateDomain gave something else");
    check(named(con.call("", &Proxy::ListDomains).Domain, name).DomainKind == bios__DomainKind__Simulated, "ListDomains tells another kind");
    check(*con.call(name, &Proxy::GetDomain).Domain->Description == description, "GetDomain tells another description");
    say({"CreateDomain", "ListDomains", "GetDomain"});

    check(until(bios__PowerState__Off).AllowedResetType == std::vector<bios__ResetType>{bios__ResetType__On, bios__ResetType__PushPowerButton}, "Off allows something else than On and PushPowerButton");
    reset(bios__ResetType__On);
    check(holds(until(bios__PowerState__On).AllowedResetType, bios__ResetType__ForceOff), "On does not allow ForceOff");
    say({"ResetSystem", "GetPowerState"});

    // Attributes: at once, pending, taken back, saved, reset.
    auto registry = con.call(name, &Proxy::GetAttributeRegistry);
    auto &tag = named(registry.Definition, "AssetTag");
    check(tag.AttributeKind == bios__AttributeKind__String && !tag.ReadOnly && !tag.ResetRequired, "AssetTag is something else");
    bios__AttributeDefinition *later = nullptr;
    for (auto *d : registry.Definition)
      if (later == nullptr && d->ResetRequired && !d->ReadOnly && d->AttributeKind == bios__AttributeKind__Enumeration && d->PossibleValue.size() > 1) later = d;
    check(later != nullptr, "no enumeration waits for a reset");
    std::string other;
    for (auto *v : later->PossibleValue)
      if (!holds(later->DefaultValue, v->ValueName)) other = v->ValueName;

    const std::string value = "rack <7> & é";
    check(named(set("AssetTag", value).AttributeState, "AssetTag").CurrentValue == std::vector<std::string>{value}, "SetAttributes gave something else");
    check(get("AssetTag").CurrentValue == std::vector<std::string>{value}, "GetAttributes gave something else");
    auto read = con.call(name, &Proxy::GetAttributes);
    check(read.Attribute.size() > 1, "GetAttributes without names gives one attribute or none");
    bios__ApplyTime on_reset = bios__ApplyTime__OnReset;
    set(later->Name, other, &read.Version, &on_reset);
    check(named(con.call(name, &Proxy::GetPendingAttributes).Attribute, later->Name).PendingValue == std::vector<std::string>{other}, later->Name + " is not pending");
    check(get(later->Name).Pending, later->Name + " does not say that it is pending");
    bios__DiscardPendingAttributesRequest discard;
    discard.Name = {later->Name};
    check(con.call(name, &Proxy::DiscardPendingAttributes, discard).Discarded == discard.Name, later->Name + " was not discarded");
    check(con.call(name, &Proxy::GetPendingAttributes).Attribute.empty(), "something is pending still");
    con.call(name, &Proxy::SaveDefaultAttributes);
    set("AssetTag", "other");
    check(get("AssetTag").CurrentValue == std::vector<std::string>{"other"}, "AssetTag is not as set");
    bios__ResetAttributesRequest saved;
    saved.DefaultSet = bios__DefaultSet__Saved;
    con.call(name, &Proxy::ResetAttributes, saved);
    check(get("AssetTag").CurrentValue == std::vector<std::string>{value}, "AssetTag is not as saved");
    say({"GetAttributeRegistry", "SetAttributes", "GetAttributes", "GetPendingAttributes", "DiscardPendingAttributes", "SaveDefaultAttributes", "ResetAttributes"});

    // Faults, as the types that the contract names.
    auto *bad = refused("InvalidAttributeFault", [&] { set(later->Name, "no such value"); })->bios__InvalidAttributeFault;
    check(bad->Refusal.size() == 1 && bad->Refusal[0]->Name == later->Name && !bad->Refusal[0]->Code.empty() && bad->Refusal[0]->RefusedValue == std::vector<std::string>{"no such value"}, "the refusal says something else");
    auto *stale = refused("ConflictFault", [&] { set("AssetTag", "late", &read.Version); })->bios__ConflictFault;
    check(*stale->CurrentVersion > read.Version, "the conflict does not tell the version");
    auto *wrong = refused("ConflictFault", [&] { reset(bios__ResetType__On); })->bios__ConflictFault;
    check(holds(wrong->AllowedValue, std::string("ForceOff")), "the conflict does not tell what is allowed");
    refused("NotFoundFault", [&] { con.call("no-such-domain", &Proxy::GetPowerState); });
    refused("InvalidRequestFault", [&] {
      bios__GetEventLogRequest most;
      unsigned int none = 0;
      most.MostRecords = &none;
      con.call(name, &Proxy::GetEventLog, most);
    });

    // What can be read of a machine that is on.
    check(con.call(name, &Proxy::GetSystemInventory).Inventory != nullptr, "there is no inventory");
    check(con.call(name, &Proxy::GetThermal).Thermal != nullptr, "there are no readings");
    unsigned int most = 1000, one = 1;
    ULONG64 after = 0;
    bios__GetEventLogRequest whole, first;
    whole.MostRecords = &most;
    bool told = false;
    for (auto *r : con.call(name, &Proxy::GetEventLog, whole).Record) told = told || r->MessageId == "BiosV.1.0.PowerChanged";
    check(told, "the event log does not tell that the power changed");
    first.After = &after;
    first.MostRecords = &one;
    check(con.call(name, &Proxy::GetEventLog, first).Record.size() == 1, "MostRecords=1 does not give one record");
    bios__GetAuditLogRequest rows;
    rows.MostRecords = &most;
    check(con.call("", &Proxy::GetAuditLog, rows).ChainIntact, "the audit log is not intact");
    say({"GetSystemInventory", "GetThermal", "GetEventLog", "GetAuditLog"});

    // Operators.
    std::string csr = contents(variable("BIOSV_OPERATOR_CSR"));
    bios__AddOperatorRequest add;
    add.Name = "Interop.gsoap";
    add.OperatorRole = bios__OperatorRole__Viewer;
    add.RequestPem = &csr;
    auto added = con.call("", &Proxy::AddOperator, add);
    check(added.Operator->OperatorRole == bios__OperatorRole__Viewer && added.CertificatePem->find("BEGIN CERTIFICATE") != std::string::npos, "AddOperator gave something else");
    check(named(con.call("", &Proxy::ListOperators).Operator, add.Name).OperatorRole == bios__OperatorRole__Viewer, "ListOperators tells another role");
    bios__RemoveOperatorRequest remove;
    remove.Name = add.Name;
    check(con.call("", &Proxy::RemoveOperator, remove).Name == add.Name, "RemoveOperator names somebody else");
    for (auto *o : con.call("", &Proxy::ListOperators).Operator) check(o->Name != add.Name, "the operator is still there");
    say({"AddOperator", "ListOperators", "RemoveOperator"});

    // Operations that this program has not heard of: without arguments.
#define FAULT(name)
#define OPERATION(name) unheard(#name, &Proxy::name);
#include "operations.inc"
#undef OPERATION
#undef FAULT

    // The state is what it was when the backup was taken.
    auto backup = con.call("", &Proxy::BackupState);
    check(digest(backup.Archive) == backup.Sha256, "the digest of the backup is not its archive's");
    set("AssetTag", "after the backup");
    bios__RestoreStateRequest restore;
    restore.Archive = backup.Archive;
    check(con.call("", &Proxy::RestoreState, restore).SchemaVersion >= 1, "RestoreState tells no schema version");
    check(get("AssetTag").CurrentValue == std::vector<std::string>{value}, "the state is not the backup's");
    say({"BackupState", "RestoreState"});

    if (con.call(name, &Proxy::GetPowerState).PowerState != bios__PowerState__Off) reset(bios__ResetType__ForceOff);
    until(bios__PowerState__Off);
    bios__DestroyDomainRequest destroy;
    destroy.Name = name;
    check(con.call("", &Proxy::DestroyDomain, destroy).Name == name, "DestroyDomain names another domain");
    refused("NotFoundFault", [&] { con.call(name, &Proxy::GetDomain); });
    say({"DestroyDomain"});

    // A chain of another authority: new connections show it at once.
    bios__InstallCertificateChainRequest install;
    install.ChainPem = sign(con.call("", &Proxy::CreateCertificateRequest).RequestPem);
    auto installed = con.call("", &Proxy::InstallCertificateChain, install);
    Connection<Proxy> again(version);
    auto shown = again.call("", &Proxy::GetCertificateChain);
    check(shown.Certificate.back()->Sha256 == installed.Certificate.back()->Sha256, "a new connection does not end in the root that was installed");
    say({"CreateCertificateRequest", "InstallCertificateChain"});
  }

 private:
  void say(const std::vector<std::string> &operations) {
    for (auto &o : operations) ok(o, version);
  }

  bios__SetAttributesReply set(const std::string &attribute, const std::string &value, ULONG64 *version = nullptr, bios__ApplyTime *when = nullptr) {
    bios__AttributeValue v;
    v.Name = attribute;
    v.NewValue = {value};
    bios__SetAttributesRequest r;
    r.Attribute = {&v};
    r.Version = version;
    r.ApplyTime = when;
    return con.call(name, &Proxy::SetAttributes, r);
  }

  bios__AttributeState get(const std::string &attribute) {
    bios__GetAttributesRequest r;
    r.Name = {attribute};
    return named(con.call(name, &Proxy::GetAttributes, r).Attribute, attribute);
  }

  void reset(bios__ResetType how) {
    bios__ResetSystemRequest r;
    r.ResetType = how;
    con.call(name, &Proxy::ResetSystem, r);
  }

  // Waits for a state of the power: a machine may take its time.
  bios__GetPowerStateReply until(bios__PowerState state) {
    for (int i = 0; i < 200; i++) {
      auto now = con.call(name, &Proxy::GetPowerState);
      if (now.PowerState == state) return now;
      usleep(100000);
    }
    throw std::runtime_error("the power does not become what was asked for");
  }

  template <class Call>
  SOAP_ENV__Detail *refused(const std::string &fault, Call call) {
    try {
      call();
    } catch (const Refused &r) {
      check(r.name == fault, fault + " was to be expected, and it was " + r.name + ": " + r.text);
      ok(fault, version);
      return r.detail;
    }
    throw std::runtime_error(fault + " was to be expected, and nothing was refused");
  }

  template <class Request, class Reply>
  void unheard(const std::string &operation, int (Proxy::*method)(const char *, const char *, Request *, Reply &)) {
    if (done.count(operation + " " + version) || late.count(operation)) return;
    std::string outcome;
    for (const std::string &domain : {name, std::string()}) {
      try {
        con.call(domain, method);
        outcome = "answered";
      } catch (const Refused &r) {
        outcome = r.name;
        check(outcome != "InternalFault", operation + ": " + r.text);
      }
      if (outcome != "NotFoundFault") break;
    }
    std::cout << "ok " << operation << " " << version << " without arguments: " << outcome << std::endl;
  }

  const std::string version, name;
  Connection<Proxy> con;
};

template <class Proxy>
bool passes(const std::string &version, const std::string &name) {
  try {
    Scenario<Proxy>(version, name).run();
    return true;
  } catch (const Refused &r) {
    std::cout << "FAILED " << version << " " << r.name << ": " << r.text << std::endl;
  } catch (const std::exception &e) {
    std::cout << "FAILED " << version << " " << e.what() << std::endl;
  }
  return false;
}

}  // namespace

int main() {
  setenv("TZ", "UTC", 1);
  soap_ssl_init();
  return passes<BiosProxy>("SOAP1.1", "interop-gsoap-11") && passes<Bios12Proxy>("SOAP1.2", "interop-gsoap-12") ? 0 : 1;
}
