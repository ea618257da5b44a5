import * as P from "@gantry/protocol"
import * as Option from "effect/Option"
import * as Wire from "../protocol/dist/internal/gen/gantry/coord/v1/coord_pb.js"
import { create, toBinary, fromBinary } from "../../node_modules/@bufbuild/protobuf/dist/esm/index.js"
import { BinaryWriter, BinaryReader } from "../../node_modules/@bufbuild/protobuf/dist/esm/wire/index.js"
const bench=(k,f,n=3000)=>{ for(let i=0;i<n;i++)f(); const t=performance.now(); for(let i=0;i<n;i++)f(); console.log(k.padEnd(22), ((performance.now()-t)/n*1000).toFixed(1),"us") }
const dig=Array.from({length:256},(_,i)=>P.Digest.make("sha256:"+i.toString(16).padStart(64,"0")))
const T=1764000000123456789n
const results=dig.map(digest=>({digest,outcome:1,startedAt:{seconds:T/1000000000n,nanos:Number(T%1000000000n)}}))
const init={msg:{case:"pleasePullResponse",value:{results}}}
const env=create(Wire.EnvelopeSchema,init)
// prebuilt without create: plain with $typeName
const rs=dig.map(digest=>({$typeName:"gantry.coord.v1.PleasePullResponse.Result",digest,outcome:1,failureClass:0,startedAt:{$typeName:"google.protobuf.Timestamp",seconds:T/1000000000n,nanos:Number(T%1000000000n)}}))
const env2={$typeName:"gantry.coord.v1.Envelope",msg:{case:"pleasePullResponse",value:{$typeName:"gantry.coord.v1.PleasePullResponse",results:rs}}}
bench("create",()=>create(Wire.EnvelopeSchema,init))
bench("toBinary",()=>toBinary(Wire.EnvelopeSchema,env))
bench("toBinary no create",()=>toBinary(Wire.EnvelopeSchema,env2))
console.log(Buffer.compare(toBinary(Wire.EnvelopeSchema,env),toBinary(Wire.EnvelopeSchema,env2)))
bench("timestamps",()=>dig.map(()=>{const nanos=((T%1000000000n)+1000000000n)%1000000000n;return {seconds:(T-nanos)/1000000000n,nanos:Number(nanos)}}))
const out=toBinary(Wire.EnvelopeSchema,env)
const body=P.encodeMessage({_tag:"PleasePullRequest",registry:"registry.example.com",repository:"library/nginx",kind:"layer",digests:dig})
bench("fromBinary",()=>fromBinary(Wire.EnvelopeSchema,body,{readUnknownFields:false}))
bench("fromBinary resp",()=>fromBinary(Wire.EnvelopeSchema,out,{readUnknownFields:false}))
const writer=()=>{const w=new BinaryWriter(); w.uint32(34).fork(); for(const digest of dig){w.uint32(10).fork().uint32(10).string(digest).uint32(16).int32(1).uint32(26).fork().uint32(8).int64(1764000000).uint32(16).int32(123456789).join().join()} return w.join().finish()}
console.log(Buffer.compare(writer(),out))
bench("BinaryWriter",writer)
const hand=()=>{ // one pass into a Buffer
  const b=Buffer.allocUnsafe(256*100+16); let o=8; for(const digest of dig){ b[o++]=10; const l=o++; b[o++]=10;b[o++]=71; o+=b.latin1Write(digest,o); b[o++]=16;b[o++]=1;b[o++]=26;b[o++]=12;o+=12; b[l]=o-l-1 } return b.subarray(0,o) }
bench("hand encode",hand)
const B=Buffer.from(body.buffer,body.byteOffset,body.length)
const handd=()=>{let o=3+3;const r=[];const td=new TextDecoder();for(let i=0;i<256;i++){r.push(B.latin1Slice(o+2,o+73));o+=73}return r}
bench("hand decode latin1",handd)
const re=/^sha256:[0-9a-f]{64}$/
bench("isDigest",()=>dig.every(d=>re.test(d)))
const fresh=handd; bench("latin1+isDigest",()=>handd().every(d=>P.isDigest(d)||true))
bench("isDigest filter",()=>fromBinary(Wire.EnvelopeSchema,body,{readUnknownFields:false}).msg.value.digests.filter(P.isDigest))
