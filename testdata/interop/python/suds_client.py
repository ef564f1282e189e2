"""Calls every operation of a BIOS.v service with suds-community, over SOAP 1.1.

The README one folder up tells what the environment variables mean. One line is printed for each operation
and each fault that was as it should be, and the program fails at the first that was not.
"""

import base64
import hashlib
import os
import ssl
import subprocess
import time
import urllib.request

import suds.client
import suds.plugin
import suds.transport.http

VERSION = "SOAP1.1"
LATE = {"BackupState", "RestoreState", "DestroyDomain", "CreateCertificateRequest", "InstallCertificateChain"}


class Tls(suds.transport.http.HttpTransport):
    """suds asks urllib for TLS; this gives it the client's certificate and the roots."""

    def u2handlers(self):
        context = ssl.create_default_context(cafile=os.environ["BIOSV_ROOTS"])
        context.load_cert_chain(os.environ["BIOSV_CERT"], os.environ["BIOSV_KEY"])
        return [*super().u2handlers(), urllib.request.HTTPSHandler(context=context)]


class Recorder(suds.plugin.MessagePlugin):
    answers = 0

    def received(self, context):
        Recorder.answers += 1
        with open(os.path.join(os.environ["BIOSV_ANSWERS"], f"{self.answers:04}.xml"), "wb") as f:
            f.write(context.reply)


def connect(domain=None):
    """A client of the service at the address of a domain, whose WSDL bears that address; without one at its own."""
    url = os.environ["BIOSV_URL"] + ("/" + domain if domain else "")
    client = suds.client.Client(url + "?wsdl", transport=Tls(), plugins=[Recorder()], cache=None)
    client.set_options(port="Bios")
    return client


def check(condition, message):
    if not condition:
        raise AssertionError(message)


done = set()


def ok(*what):
    for w in what:
        if w not in done:
            done.add(w)
            print("ok", w, VERSION, flush=True)


def many(value):
    """suds leaves a list that is empty out."""
    return value if isinstance(value, list) else [] if value is None or value == "" else [value]


def named(values, name):
    found = [v for v in many(values) if v.Name == name]
    check(len(found) == 1, f"{name} is there {len(found)} times")
    return found[0]


def fault_of(e):
    detail = e.fault.detail
    name = next(k for k in suds.sudsobject.asdict(detail))
    return name, detail[name]


def refused(fault, call):
    try:
        call()
    except suds.WebFault as e:
        name, detail = fault_of(e)
        check(name == fault, f"{fault} was to be expected, and it was {name}: {e}")
        ok(fault)
        return detail
    raise AssertionError(f"{fault} was to be expected, and nothing was refused")


def power(bios, wanted):
    end = time.monotonic() + 20
    while not wanted((now := bios.service.GetPowerState()).PowerState):
        check(time.monotonic() < end, f"the power stays {now.PowerState}")
        time.sleep(0.1)
    return now


def scenario():
    host, name = connect(), "interop-suds-11"

    check(host.service.GetTrustState() is not None, "GetTrustState tells nothing")
    for c in host.service.GetCertificateChain():
        check(hashlib.sha256(base64.b64decode(c.Der)).hexdigest() == c.Sha256, f"the digest of {c.Subject} is not its DER form's")
    ok("GetTrustState", "GetCertificateChain")

    description = "suds <&> \"é\" 日本 \U0001f600"
    made = host.service.CreateDomain(name, "Simulated", description, 7)
    check((made.Name, made.Description, made.PowerState) == (name, description, "Off"), f"CreateDomain gave {made}")
    bios = connect(name)
    check(named(host.service.ListDomains(), name).DomainKind == "Simulated", "ListDomains tells another kind")
    check(bios.service.GetDomain().Description == description, "GetDomain tells another description")
    power(bios, lambda s: s == "Off")
    bios.service.ResetSystem("On")
    check("ForceOff" in power(bios, lambda s: s == "On").AllowedResetType, "On does not allow ForceOff")
    ok("CreateDomain", "ListDomains", "GetDomain", "ResetSystem", "GetPowerState")

    def value(name, *values):
        v = bios.factory.create("ns0:AttributeValue")
        v.Name, v.NewValue = name, list(values)
        return v

    def asset_tag():
        return many(named(bios.service.GetAttributes(["AssetTag"]).Attribute, "AssetTag").CurrentValue)

    registry = bios.service.GetAttributeRegistry()
    later = next(d for d in registry.Definition if d.ResetRequired and not d.ReadOnly and d.AttributeKind == "Enumeration" and len(d.PossibleValue) > 1)
    other = next(v.ValueName for v in later.PossibleValue if v.ValueName not in later.DefaultValue)
    bios.service.SetAttributes([value("AssetTag", "rack <7> & é")])
    check(asset_tag() == ["rack <7> & é"], f"AssetTag is {asset_tag()}")
    read = bios.service.GetAttributes()
    bios.service.SetAttributes([value(later.Name, other)], "OnReset", read.Version)
    check(many(named(bios.service.GetPendingAttributes().Attribute, later.Name).PendingValue) == [other], f"{later.Name} is not pending")
    check(later.Name in str(bios.service.DiscardPendingAttributes([later.Name])), f"{later.Name} was not discarded")
    bios.service.SaveDefaultAttributes()
    bios.service.SetAttributes([value("AssetTag", "other")])
    bios.service.ResetAttributes("Saved")
    check(asset_tag() == ["rack <7> & é"], "AssetTag is not as saved")
    ok("GetAttributeRegistry", "SetAttributes", "GetAttributes", "GetPendingAttributes", "DiscardPendingAttributes", "SaveDefaultAttributes", "ResetAttributes")

    detail = refused("InvalidAttributeFault", lambda: bios.service.SetAttributes([value(later.Name, "no such value")]))
    check([r.Name for r in many(detail.Refusal)] == [later.Name] and many(detail.Refusal)[0].Code, f"the refusal says {detail}")
    refused("ConflictFault", lambda: bios.service.SetAttributes([value("AssetTag", "late")], None, read.Version))
    refused("NotFoundFault", lambda: connect_unknown().service.GetPowerState())
    refused("InvalidRequestFault", lambda: bios.service.ResetSystem("NoSuchReset"))

    check(bios.service.GetSystemInventory() is not None, "there is no inventory")
    check(bios.service.GetThermal() is not None, "there are no readings")
    check(any(r.MessageId == "BiosV.1.0.PowerChanged" for r in bios.service.GetEventLog(None, 1000).Record), "the event log does not tell that the power changed")
    check(host.service.GetAuditLog(None, 1000).ChainIntact, "the audit log is not intact")
    with open(os.environ["BIOSV_OPERATOR_CSR"], encoding="ascii") as f:
        check("BEGIN CERTIFICATE" in host.service.AddOperator("Interop.suds", "Viewer", f.read()).CertificatePem, "AddOperator gave no certificate")
    check(named(host.service.ListOperators(), "Interop.suds").OperatorRole == "Viewer", "ListOperators tells another role")
    check(host.service.RemoveOperator("Interop.suds") == "Interop.suds", "RemoveOperator names somebody else")
    ok("GetSystemInventory", "GetThermal", "GetEventLog", "GetAuditLog", "AddOperator", "ListOperators", "RemoveOperator")

    # Operations that this program has not heard of: without arguments.
    for operation in sorted({m for p in host.sd[0].ports if p[0].name == "Bios" for m, _ in p[1]} - done - LATE):
        for client in (bios, host):
            try:
                getattr(client.service, operation)()
                outcome = "answered"
            except suds.WebFault as e:
                outcome = fault_of(e)[0]
                check(outcome != "InternalFault", f"{operation}: {e}")
            if outcome != "NotFoundFault":
                break
        print("ok", operation, VERSION, "without arguments:", outcome, flush=True)

    backup = host.service.BackupState()
    check(hashlib.sha256(base64.b64decode(backup.Archive)).hexdigest() == backup.Sha256, "the digest of the backup is not its archive's")
    bios.service.SetAttributes([value("AssetTag", "after the backup")])
    check(host.service.RestoreState(backup.Archive) >= 1, "RestoreState tells no schema version")
    check(asset_tag() == ["rack <7> & é"], "the state is not the backup's")
    if power(bios, lambda s: not s.startswith("Powering")).PowerState != "Off":
        bios.service.ResetSystem("ForceOff")
    power(bios, lambda s: s == "Off")
    check(host.service.DestroyDomain(name) == name, "DestroyDomain names another domain")
    chain = subprocess.run(os.environ["BIOSV_SIGN"], input=host.service.CreateCertificateRequest(), stdout=subprocess.PIPE, check=True, text=True, shell=True).stdout
    installed = host.service.InstallCertificateChain(chain)
    check(connect().service.GetCertificateChain()[-1].Sha256 == installed[-1].Sha256, "a new connection does not end in the root that was installed")
    ok("BackupState", "RestoreState", "DestroyDomain", "CreateCertificateRequest", "InstallCertificateChain")


def connect_unknown():
    """A client whose address is that of no domain."""
    client = connect()
    client.set_options(location=os.environ["BIOSV_URL"] + "/no-such-domain")
    return client


if __name__ == "__main__":
    try:
        scenario()
    except Exception as e:
        print("FAILED", VERSION, f"{type(e).__name__}: {e}", flush=True)
        raise
