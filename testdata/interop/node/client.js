'use strict';
// Calls every operation of a BIOS.v service with node-soap, over SOAP 1.1 and over SOAP 1.2.
//
// The README one folder up tells what the environment variables mean. One line is printed for each operation
// and each fault that was as it should be, and the program fails at the first that was not.

const assert = require('node:assert/strict');
const { execSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const https = require('node:https');
const path = require('node:path');
const axios = require('axios');
const soap = require('soap');

const env = process.env;
const ports = { 'SOAP1.1': 'Bios', 'SOAP1.2': 'Bios12' };
const late = ['BackupState', 'RestoreState', 'DestroyDomain', 'CreateCertificateRequest', 'InstallCertificateChain'];
const done = new Set();
let answers = 0;

function ok(version, ...what) {
  for (const w of what) {
    if (!done.has(`${w} ${version}`)) {
      done.add(`${w} ${version}`);
      console.log('ok', w, version);
    }
  }
}

/** A TLS connection of its own, with a client of the WSDL read over it. at(domain) gives the service at a domain's address. */
async function connect(version) {
  const httpsAgent = new https.Agent({
    ca: fs.readFileSync(env.BIOSV_ROOTS),
    cert: fs.readFileSync(env.BIOSV_CERT),
    key: fs.readFileSync(env.BIOSV_KEY),
    keepAlive: true,
  });
  const options = { request: axios.create({ httpsAgent }), forceSoap12Headers: version === 'SOAP1.2' };
  const client = await soap.createClientAsync(`${env.BIOSV_URL}?wsdl`, options);
  client.on('response', (body) => fs.writeFileSync(path.join(env.BIOSV_ANSWERS, `${String(++answers).padStart(4, '0')}.xml`), body));
  const at = (domain) =>
    new Proxy({}, {
      get: (_, operation) => (args = {}) =>
        new Promise((resolve, reject) => {
          client.setEndpoint(env.BIOSV_URL + (domain ? `/${domain}` : ''));
          // setEndpoint makes the ports anew: none may be kept.
          client.BiosService[ports[version]][operation](args, (err, result) => (err ? reject(err) : resolve(result || {})));
        }),
    });
  return { at, operations: client.describe().BiosService[ports[version]], close: () => httpsAgent.destroy() };
}

/** The detail of a fault, and its name in the contract. SOAP 1.1 and 1.2 say it with other elements. */
function faultOf(err) {
  const fault = err.root && err.root.Envelope.Body.Fault;
  if (!fault) throw err;
  const detail = fault.detail || fault.Detail;
  const name = Object.keys(detail).find((k) => k !== 'attributes');
  return { name, detail: detail[name] };
}

async function refused(version, name, call) {
  const fault = await call.then(() => assert.fail(`${name} was to be expected, and nothing was refused`), faultOf);
  assert.equal(fault.name, name, `${name} was to be expected: ${JSON.stringify(fault)}`);
  assert.ok(fault.detail.Code && fault.detail.Message && fault.detail.MessageId, `${name} says too little`);
  ok(version, name);
  return fault.detail;
}

/** node-soap gives one of many as itself, and none as undefined. */
const list = (value) => (value === undefined || value === null ? [] : Array.isArray(value) ? value : [value]);

function named(values, name) {
  const found = list(values).filter((v) => v.Name === name);
  assert.equal(found.length, 1, `${name} is there ${found.length} times`);
  return found[0];
}

async function power(bios, wanted) {
  for (const end = Date.now() + 20000; ; await new Promise((r) => setTimeout(r, 100))) {
    const now = await bios.GetPowerState();
    if (wanted(now.PowerState)) return now;
    assert.ok(Date.now() < end, `the power stays ${now.PowerState}`);
  }
}

async function scenario(version) {
  const con = await connect(version);
  const host = con.at();
  const name = `interop-node-${version === 'SOAP1.1' ? '11' : '12'}`;

  // Trust: whatever stands behind the channel can be read, and is what TLS showed.
  assert.ok((await host.GetTrustState()).Trust);
  for (const c of list((await host.GetCertificateChain()).Certificate)) {
    assert.equal(crypto.createHash('sha256').update(Buffer.from(c.Der, 'base64')).digest('hex'), c.Sha256);
  }
  ok(version, 'GetTrustState', 'GetCertificateChain');

  // A domain of our own; its description holds what XML and UTF-8 make difficult.
  const description = 'node <&> "é" 日本 \u{1f600}';
  const made = (await host.CreateDomain({ Name: name, DomainKind: 'Simulated', Description: description, SimulationSeed: 7 })).Domain;
  assert.deepEqual([made.Name, made.Description, made.PowerState], [name, description, 'Off']);
  assert.equal(named((await host.ListDomains()).Domain, name).DomainKind, 'Simulated');
  const bios = con.at(name);
  assert.equal((await bios.GetDomain()).Domain.Description, description);
  ok(version, 'CreateDomain', 'ListDomains', 'GetDomain');

  assert.deepEqual(list((await power(bios, (s) => s === 'Off')).AllowedResetType), ['On', 'PushPowerButton']);
  await bios.ResetSystem({ ResetType: 'On' });
  assert.ok(list((await power(bios, (s) => s === 'On')).AllowedResetType).includes('ForceOff'));
  ok(version, 'ResetSystem', 'GetPowerState');

  // Attributes: at once, pending, taken back, saved, reset.
  const definitions = list((await bios.GetAttributeRegistry()).Definition);
  const tag = named(definitions, 'AssetTag');
  assert.deepEqual([tag.AttributeKind, tag.ReadOnly, tag.ResetRequired], ['String', false, false]);
  const later = definitions.find((d) => d.ResetRequired && !d.ReadOnly && d.AttributeKind === 'Enumeration' && list(d.PossibleValue).length > 1);
  const other = later.PossibleValue.map((v) => v.ValueName).find((v) => !list(later.DefaultValue).includes(v));
  const assetTag = async () => list(named((await bios.GetAttributes({ Name: ['AssetTag'] })).Attribute, 'AssetTag').CurrentValue);
  const first = await bios.SetAttributes({ Attribute: [{ Name: 'AssetTag', NewValue: ['rack <7> & é'] }] });
  assert.deepEqual(list(named(first.AttributeState, 'AssetTag').CurrentValue), ['rack <7> & é']);
  assert.deepEqual(await assetTag(), ['rack <7> & é']);
  const read = await bios.GetAttributes({});
  assert.ok(list(read.Attribute).length > 1);
  await bios.SetAttributes({ Attribute: [{ Name: later.Name, NewValue: [other] }], ApplyTime: 'OnReset', Version: read.Version });
  assert.deepEqual(list(named((await bios.GetPendingAttributes()).Attribute, later.Name).PendingValue), [other]);
  assert.equal(named((await bios.GetAttributes({ Name: [later.Name] })).Attribute, later.Name).Pending, true);
  assert.deepEqual(list((await bios.DiscardPendingAttributes({ Name: [later.Name] })).Discarded), [later.Name]);
  assert.deepEqual(list((await bios.GetPendingAttributes()).Attribute), []);
  await bios.SaveDefaultAttributes();
  await bios.SetAttributes({ Attribute: [{ Name: 'AssetTag', NewValue: ['other'] }] });
  assert.deepEqual(await assetTag(), ['other']);
  await bios.ResetAttributes({ DefaultSet: 'Saved' });
  assert.deepEqual(await assetTag(), ['rack <7> & é']);
  ok(version, 'GetAttributeRegistry', 'SetAttributes', 'GetAttributes', 'GetPendingAttributes', 'DiscardPendingAttributes', 'SaveDefaultAttributes', 'ResetAttributes');

  // Faults, by the names and members that the contract gives them.
  const bad = await refused(version, 'InvalidAttributeFault', bios.SetAttributes({ Attribute: [{ Name: later.Name, NewValue: ['no such value'] }] }));
  assert.deepEqual(list(bad.Refusal).map((r) => [r.Name, list(r.RefusedValue)]), [[later.Name, ['no such value']]]);
  assert.ok(list(bad.Refusal)[0].Code);
  const stale = await refused(version, 'ConflictFault', bios.SetAttributes({ Attribute: [{ Name: 'AssetTag', NewValue: ['late'] }], Version: read.Version }));
  assert.ok(BigInt(stale.CurrentVersion) > BigInt(read.Version));
  const wrong = await refused(version, 'ConflictFault', bios.ResetSystem({ ResetType: 'On' }));
  assert.ok(list(wrong.AllowedValue).includes('ForceOff'));
  await refused(version, 'NotFoundFault', con.at('no-such-domain').GetPowerState());
  await refused(version, 'InvalidRequestFault', bios.ResetSystem({ ResetType: 'NoSuchReset' }));

  // What can be read of a machine that is on.
  assert.ok((await bios.GetSystemInventory()).Inventory);
  assert.ok((await bios.GetThermal()).Thermal);
  const records = list((await bios.GetEventLog({ MostRecords: 1000 })).Record);
  assert.ok(records.some((r) => r.MessageId === 'BiosV.1.0.PowerChanged'), 'the event log does not tell that the power changed');
  assert.equal(list((await bios.GetEventLog({ After: 0, MostRecords: 1 })).Record).length, 1);
  assert.equal((await host.GetAuditLog({ MostRecords: 1000 })).ChainIntact, true);
  ok(version, 'GetSystemInventory', 'GetThermal', 'GetEventLog', 'GetAuditLog');

  // Operators.
  const person = 'Interop.node';
  const added = await host.AddOperator({ Name: person, OperatorRole: 'Viewer', RequestPem: fs.readFileSync(env.BIOSV_OPERATOR_CSR, 'ascii') });
  assert.equal(added.Operator.OperatorRole, 'Viewer');
  assert.match(added.CertificatePem, /BEGIN CERTIFICATE/);
  assert.equal(named((await host.ListOperators()).Operator, person).OperatorRole, 'Viewer');
  assert.equal((await host.RemoveOperator({ Name: person })).Name, person);
  assert.ok(!list((await host.ListOperators()).Operator).some((o) => o.Name === person));
  ok(version, 'AddOperator', 'ListOperators', 'RemoveOperator');

  // Operations that this program has not heard of: without arguments.
  for (const operation of Object.keys(con.operations).filter((o) => !done.has(`${o} ${version}`) && !late.includes(o))) {
    let outcome;
    for (const service of [bios, host]) {
      outcome = await service[operation]().then(() => 'answered', (err) => faultOf(err).name);
      assert.notEqual(outcome, 'InternalFault', operation);
      if (outcome !== 'NotFoundFault') break;
    }
    console.log('ok', operation, version, 'without arguments:', outcome);
  }

  // The state is what it was when the backup was taken.
  const backup = await host.BackupState();
  assert.equal(crypto.createHash('sha256').update(Buffer.from(backup.Archive, 'base64')).digest('hex'), backup.Sha256);
  await bios.SetAttributes({ Attribute: [{ Name: 'AssetTag', NewValue: ['after the backup'] }] });
  assert.ok((await host.RestoreState({ Archive: backup.Archive })).SchemaVersion >= 1);
  assert.deepEqual(await assetTag(), ['rack <7> & é']);
  ok(version, 'BackupState', 'RestoreState');

  if ((await power(bios, (s) => !s.startsWith('Powering'))).PowerState !== 'Off') await bios.ResetSystem({ ResetType: 'ForceOff' });
  await power(bios, (s) => s === 'Off');
  assert.equal((await host.DestroyDomain({ Name: name })).Name, name);
  await refused(version, 'NotFoundFault', bios.GetDomain());
  ok(version, 'DestroyDomain');

  // A chain of another authority: new connections show it at once.
  const request = (await host.CreateCertificateRequest()).RequestPem;
  const chain = execSync(env.BIOSV_SIGN, { input: request, encoding: 'ascii' });
  const installed = list((await host.InstallCertificateChain({ ChainPem: chain })).Certificate);
  const next = await connect(version);
  const shown = list((await next.at().GetCertificateChain()).Certificate);
  assert.equal(shown.at(-1).Sha256, installed.at(-1).Sha256, 'a new connection does not end in the root that was installed');
  ok(version, 'CreateCertificateRequest', 'InstallCertificateChain');
  next.close();
  con.close();
}

(async () => {
  for (const version of Object.keys(ports)) {
    try {
      await scenario(version);
    } catch (err) {
      console.log('FAILED', version, String(err.message || err).slice(0, 2000));
      console.error(err.stack);
      process.exit(1);
    }
  }
})();
