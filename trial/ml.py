import numpy as np, jax, jax.numpy as jnp, sys, time
sys.path.insert(0,'/work/main')
from morphot_jax import prepare_maps, kernels
from morphot_jax.maps.window import bounding_box
from morphot_jax.transport import loop, sinkhorn
from morphot_jax.transport.loop import Options
from morphot_jax.transport.sinkhorn import *
from morphot_jax.transport.relaxation import automatic
from morphot_jax.morphing.plan import spread
from experiments.cases import build_case
names=sys.argv[1:] or ('mmcpn-real','adk-linear','spike','spliceosome')
def go(solver,P,opt,reps=3):
    s=loop.solve(solver,P,opt)
    ts=[]
    for _ in range(reps):
        t=time.perf_counter(); s=jax.block_until_ready(loop.solve(solver,P,opt)); ts.append(time.perf_counter()-t)
    h=np.asarray(s.history.marginal_error)[:int(s.iterations)] if s.history.marginal_error.ndim==1 else None
    return s,int(s.iterations),float(s.marginal_error),min(ts),h
if __name__=='__main__':
  with jax.enable_x64(True):
    for n in names:
        c=build_case(n); m=prepare_maps([c.first,c.last])
        pair=np.stack([v.data.astype(float) for v in m.volumes])
        for sig in (64/60,):
            inner=bounding_box(pair.sum(0)>0); maps=pair[(slice(None),*inner)]
            k=kernels.heat(maps.shape[1:],sig)
            P=Problem(side_of(maps[0]),side_of(maps[1]),k)
            from morphot_jax.transport.relaxation import AUTOMATIC
            for name,sol,opt in (('relaxed',Sinkhorn(False),Options(1e-6,Relaxation(1.85,2.0,5),2000)),('multi',MultilevelSinkhorn(False),Options(1e-6,AUTOMATIC,2000))):
                s,it,e,t,h=go(sol,P,opt)
                print(n,maps.shape[1:],f'{sig:.3f}',name,it,f'{e:.1e}',f'{t:.3f}s', 'status',int(s.status), f'{t/it*1e3:.1f} ms/it', flush=True)
                if '-h' in sys.argv: print(np.array2string(h,precision=1))
